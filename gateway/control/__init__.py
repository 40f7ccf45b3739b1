"""The daemon's one control API: HTTP on a Unix socket in the state directory. Commands and screens are its clients."""
