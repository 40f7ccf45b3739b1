"""The daemon's one control API: HTTP on a Unix socket in the state directory. Commands and screens are its clients.

Beside it what works with the daemon down, too: the doctor, backup and restore, the support bundle.
"""
