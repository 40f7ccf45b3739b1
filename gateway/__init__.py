"""iomt-gateway: from a wearable's notification to a verified row in the cloud."""

__version__ = "0.1.0"
