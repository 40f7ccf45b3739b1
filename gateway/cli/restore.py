"""`iomt-gateway restore`: a new box of a backup."""

import argparse
import datetime as dt
import json
from dataclasses import asdict
from pathlib import Path

from gateway.cli import common
from gateway.control.backup import unseal
from gateway.control.continuation import parse_link
from gateway.control.restore import restore
from gateway.errors import ConfigError
from gateway.identity.files import load_recipient_key
from gateway.model import Lane


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "restore",
        help="make a new box of a backup; the old one must never run again",
        description="The old box must never run again: two with one identity push each other from the broker, and the"
        " receiver tells of a fork.",
    )
    parser.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    parser.add_argument("--key", type=Path, required=True, metavar="KEY", help="the operator's private key")
    history = parser.add_mutually_exclusive_group(required=True)
    history.add_argument(
        "--after",
        action="append",
        metavar="LANE=CHAIN:NO:HASH",
        help="the receiver's last bundle of a lane; `iomt-receiver heads GATEWAY` prints these arguments",
    )
    history.add_argument(
        "--new-history",
        action="store_true",
        help="nobody can ask the receiver: begin anew, of which it will raise an alarm (a fork: second-root)",
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("file", type=Path, metavar="FILE", help="as `iomt-gateway backup` wrote it")
    parser.set_defaults(command=_restore)


def _restore(arguments: argparse.Namespace) -> int:
    after = {}
    for text in arguments.after or []:
        lane, equals, link = text.partition("=")
        if not equals or lane.upper() not in Lane.__members__:
            raise ConfigError(f"--after {text}: is not data=CHAIN:NO:HASH or urgent=CHAIN:NO:HASH")
        after[Lane[lane.upper()]] = parse_link(link)
    path: Path = arguments.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    backup = unseal(data, load_recipient_key(arguments.key))
    made = restore(backup, arguments.config, after=after)
    if arguments.json:
        print(json.dumps(asdict(made) | {"config": str(arguments.config), "backup_ms": backup.time_ms}))
        return 0
    at = dt.datetime.fromtimestamp(backup.time_ms / 1000, dt.UTC)
    print(f"{made.gateway} is restored as it was on {at:%F %T}Z: {made.wearables} wearables.")
    if not made.keys:
        print("Its private keys were not in the backup. First: iomt-gateway enrol (docs/identity.md)")
    if made.wearables and not made.bonded:
        print("Their bonds are not here. Each has to be paired again: iomt-gateway devices pair ADDRESS")
    print(
        f"Next: iomt-gateway doctor --config {arguments.config}, then iomt-gateway run or systemctl start iomt-gateway"
    )
    return 0
