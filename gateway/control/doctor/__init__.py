"""`iomt-gateway doctor`: facts are gathered, whether the daemon runs or not, and judged; nothing is changed."""
