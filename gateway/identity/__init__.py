"""Keys and where they live, certificates."""
