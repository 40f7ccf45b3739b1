"""`iomt-gateway backup`: configuration, identity, wearables and bonds in one file that an operator's key opens."""

import argparse
import json
import os
import time
from pathlib import Path

from gateway.cli import common
from gateway.config import GatewayConfig, load
from gateway.control.backup import gather, seal
from gateway.errors import ConfigError
from gateway.identity.files import load_recipient


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    backup = commands.add_parser(
        "backup",
        help="keep configuration, identity, wearables and bonds in a file that an operator's key opens",
        description="What waits in the outbox is not in it: `iomt-gateway outbox export`. Bonds of BlueZ are in it only"
        " if root runs this.",
    )
    backup.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    backup.add_argument(
        "--to", type=Path, required=True, metavar="PUB", help="the public key, as `iomt-receiver backup-key` made it"
    )
    backup.add_argument("--json", action="store_true", help="one line of JSON")
    backup.add_argument("file", type=Path, metavar="FILE", help="must be new")
    backup.set_defaults(command=_backup)


def _backup(arguments: argparse.Namespace) -> int:
    config = load(arguments.config, GatewayConfig)
    taken = gather(arguments.config, config, now_ms=time.time_ns() // 1_000_000)
    path: Path = arguments.file
    try:
        with os.fdopen(common.new_private(path), "wb") as file:
            file.write(seal(taken, load_recipient(arguments.to)))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    keys = "identity/tls_key" in taken.files
    if arguments.json:
        told = {"file": str(path), "gateway": taken.gateway, "keys": keys, "bluez_bonds": taken.bonds()}
        print(json.dumps(told | {"files": sorted(taken.files)}))
        return 0
    print(f"{path}: {taken.gateway}, {len(taken.files)} files, {taken.bonds()} bonds of BlueZ")
    if not keys:
        print("Without its private keys, which are not in files: a box that is made of it has to be enrolled.")
    print("Not in it: what waits in the outbox (iomt-gateway outbox export).")
    return 0
