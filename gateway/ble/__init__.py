"""Links to wearables, collection and backfill."""
