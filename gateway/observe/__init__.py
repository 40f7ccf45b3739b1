"""Metrics, structured logs."""
