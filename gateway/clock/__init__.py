"""What time it is, and how sure that is."""
