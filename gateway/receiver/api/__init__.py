"""The read API of a store: latest values, ranges and completeness, to the certificates that [api] names."""
