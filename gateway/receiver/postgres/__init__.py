"""The store in PostgreSQL: any number of workers, readings partitioned by time, numbered migrations in plain SQL."""
