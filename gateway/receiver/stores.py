"""Which store a configuration names."""

from contextlib import AbstractContextManager

from gateway.receiver import sqlite
from gateway.receiver.archive import Archive
from gateway.receiver.config import ReceiverConfig
from gateway.receiver.store import Store, open_incarnation


def open_store(config: ReceiverConfig) -> Store:
    """Open the store; in both cases the incarnation lies in `state_dir`. Raises `StoreError`."""
    if config.store.url == "sqlite":
        return sqlite.SqliteStore.open(config.receiver.state_dir)
    from gateway.receiver.postgres.store import PostgresStore

    return PostgresStore.open(config.store.url, incarnation=open_incarnation(config.receiver.state_dir))


def open_archive(config: ReceiverConfig) -> AbstractContextManager[Archive]:
    """Open a snapshot of the store to read, beside the receivers that work there. Entering raises `StoreError`."""
    if config.store.url == "sqlite":
        return sqlite.reading(config.receiver.state_dir)
    from gateway.receiver.postgres.reading import reading

    return reading(config.store.url)
