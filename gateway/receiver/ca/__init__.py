"""The small CA of a site without a PKI of its own: issues, renews, revokes, over EST (RFC 7030)."""
