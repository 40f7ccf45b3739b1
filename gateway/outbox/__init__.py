"""The only queue, the only durable thing."""
