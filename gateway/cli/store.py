"""`iomt-receiver store`: what a database's owner does, never a worker."""

import argparse
import json
import time
from pathlib import Path

from gateway.cli import common
from gateway.config import load
from gateway.errors import ConfigError
from gateway.receiver.config import ReceiverConfig


def add_parser(commands: "common.Subparsers") -> None:
    """Add the group."""
    store = commands.add_parser("store", help="PostgreSQL: tables, partitions, retention")
    group = store.add_subparsers(metavar="COMMAND", required=True)
    migrate = group.add_parser("migrate", help="bring the tables to this version; does nothing twice")
    maintain = group.add_parser("maintain", help="drop what store.retention_days no longer keeps; once a day")
    for parser, command in ((migrate, _migrate), (maintain, _maintain)):
        parser.add_argument("--config", type=Path, default=common.RECEIVER_CONFIG, metavar="FILE", help=common.DEFAULT)
        parser.add_argument("--owner", metavar="URL", help="address for the tables' owner (default: store.url)")
        parser.add_argument("--json", action="store_true", help="machine-readable")
        parser.set_defaults(command=command)


def _migrate(arguments: argparse.Namespace) -> int:
    from gateway.receiver.postgres.schema import migrate

    applied = migrate(_owner(arguments, load(arguments.config, ReceiverConfig)))
    _tell(arguments, "applied", applied, "nothing to do: the tables are of this version")
    return 0


def _maintain(arguments: argparse.Namespace) -> int:
    from gateway.receiver.postgres.schema import retain

    config = load(arguments.config, ReceiverConfig)
    if not config.store.retention_days:
        raise ConfigError(f"{arguments.config}: store.retention_days is not set: everything is kept")
    now_ms = time.time_ns() // 1_000_000
    dropped = retain(_owner(arguments, config), days=config.store.retention_days, now_ms=now_ms)
    _tell(arguments, "dropped", dropped, "nothing to drop")
    return 0


def _owner(arguments: argparse.Namespace, config: ReceiverConfig) -> str:
    if arguments.owner:
        return str(arguments.owner)
    if config.store.url == "sqlite":
        raise ConfigError(f"{arguments.config}: store.url names no PostgreSQL; SQLite needs none of this")
    return config.store.url


def _tell(arguments: argparse.Namespace, done: str, names: list[str], nothing: str) -> None:
    if arguments.json:
        print(json.dumps({done: names}))
    elif names:
        print("\n".join(f"{done} {name}" for name in names))
    else:
        print(nothing)
