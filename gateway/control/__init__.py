"""The daemon's one control API."""
