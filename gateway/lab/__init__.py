"""What proves the rest: virtual wearables, embedded broker, fault proxy, demo."""
