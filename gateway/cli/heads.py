"""`iomt-receiver backup-key` and `heads`: what a gateway's backup and restore need of the receiver's side."""

import argparse
import json
import os
from pathlib import Path

from gateway.cli import common
from gateway.config import load
from gateway.control.continuation import link_text
from gateway.errors import ConfigError
from gateway.receiver.config import ReceiverConfig


def add_parser(commands: common.Subparsers) -> None:
    """Add both."""
    key = commands.add_parser("backup-key", help="make the key that opens gateways' backups")
    key.add_argument("file", type=Path, metavar="FILE", help="must be new; lock it away. FILE.pub goes to the gateways")
    key.set_defaults(command=_key)
    heads = commands.add_parser("heads", help="the last bundles of a gateway that are stored: for its restore")
    heads.add_argument("--config", type=Path, default=common.RECEIVER_CONFIG, metavar="FILE", help=common.DEFAULT)
    heads.add_argument("--json", action="store_true", help="one line of JSON")
    heads.add_argument("gateway", metavar="GATEWAY")
    heads.set_defaults(command=_heads)


def _key(arguments: argparse.Namespace) -> int:
    from gateway.receiver.fleet import new_recipient_key

    path: Path = arguments.file
    key, line = new_recipient_key()
    public = path.with_name(f"{path.name}.pub")
    try:
        with os.fdopen(common.new_private(path), "wb") as file:
            file.write(line)
        public.write_text(f"xwing:{key.recipient.public.hex()}\n", encoding="ascii")
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written: {error.strerror}") from error
    print(f"{path}: opens backups; lock it away, on another medium")
    print(f"{public}: copy it to the gateways: iomt-gateway backup --to {public.name} FILE")
    return 0


def _heads(arguments: argparse.Namespace) -> int:
    from gateway.receiver.heads import heads
    from gateway.receiver.stores import open_archive

    with open_archive(load(arguments.config, ReceiverConfig)) as archive:
        found = {lane.name.lower(): link_text(link) for lane, link in heads(archive, arguments.gateway).items()}
    print(json.dumps(found) if arguments.json else " ".join(f"--after {lane}={text}" for lane, text in found.items()))
    return 0
