"""Sans-IO: one file per GATT health profile, decode and encode."""
