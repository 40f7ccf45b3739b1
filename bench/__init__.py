"""Benchmarks: each a module with `run() -> dict`, printed as one JSON object by `python -m bench NAME --json`."""
