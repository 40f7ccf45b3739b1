"""Debian packages and what is said about them. Nothing here is installed."""
