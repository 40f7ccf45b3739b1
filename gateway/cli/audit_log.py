"""`iomt-gateway audit verify` and `show`: they read the log on the disk, whether the daemon runs or not."""

import argparse
import datetime as dt
import json
from pathlib import Path

from gateway.cli import common
from gateway.config import GatewayConfig, load
from gateway.control.audit import FILE, verify
from gateway.errors import AuditError


def add_parser(commands: common.Subparsers) -> None:
    """Add the commands."""
    actions = commands.add_parser("audit", help="who did what at this gateway").add_subparsers(
        metavar="ACTION", required=True
    )
    checking = actions.add_parser("verify", help="check that nothing was changed or taken away; exit 1 if it was")
    checking.add_argument("--head", metavar="HASH", help="of an `audit-head` event that the cloud has: must be in it")
    checking.set_defaults(command=_verify)
    show = actions.add_parser("show", help="every act, oldest first")
    show.set_defaults(command=_show)
    for action in (checking, show):
        action.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
        action.add_argument("--json", action="store_true", help="JSON, an object a line")


def _log(arguments: argparse.Namespace) -> Path:
    return load(arguments.config, GatewayConfig).gateway.state_dir / FILE


def _verify(arguments: argparse.Namespace) -> int:
    path = _log(arguments)
    heads = {head.hex(): int(entry["no"]) for entry, head in verify(path)}
    first = min(heads.values(), default=1)
    if arguments.head and arguments.head.lower() not in heads:
        older = f", or that entry is older than {first}, the oldest one kept" if first > 1 else ""
        raise AuditError(f"{path}: has no entry {arguments.head}: it was rewritten after the cloud heard of it{older}")
    newest = next(reversed(heads), None)
    if arguments.json:
        print(json.dumps({"entries": len(heads), "first": first, "head": newest}))
    else:
        print(f"{len(heads)} entries from {first} on, each follows the one before; head {newest or '-'}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    for entry, _ in verify(_log(arguments)):
        if arguments.json:
            print(json.dumps(entry))
            continue
        at_ms = entry["at_ms"]
        at = "time not known" if at_ms is None else f"{dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC):%F %T}Z"
        what = " ".join(f"{key}={value}" for key, value in entry["what"].items())
        print(f"{entry['no']:5} {at:20} {entry['who']} ({entry['role']}): {entry['act']} {what}: {entry['outcome']}")
    return 0
