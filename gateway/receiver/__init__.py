"""The cloud's side: ingest (sans-IO), stores, transport."""
