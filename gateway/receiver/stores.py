"""Which store a configuration names."""

from gateway.config import ReceiverConfig
from gateway.receiver.sqlite import SqliteStore
from gateway.receiver.store import Store, open_incarnation


def open_store(config: ReceiverConfig) -> Store:
    """Open the store; in both cases the incarnation lies in `state_dir`. Raises `StoreError`."""
    if config.store.url == "sqlite":
        return SqliteStore.open(config.receiver.state_dir)
    from gateway.receiver.postgres.store import PostgresStore

    return PostgresStore.open(config.store.url, incarnation=open_incarnation(config.receiver.state_dir))
