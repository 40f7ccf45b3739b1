"""Configuration as shipped: both sides' TOML with every key explained, and the brokers'."""
