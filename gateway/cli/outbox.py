"""`iomt-gateway outbox status`, `verify` and `export`: they read the disk, whether the daemon runs or not."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from gateway.cli import common
from gateway.config import GatewayConfig, load
from gateway.errors import ConfigError
from gateway.outbox.survey import Survey, export, survey


def add_parser(commands: common.Subparsers) -> None:
    """Add the commands."""
    outbox = commands.add_parser("outbox", help="look into what waits on the disk")
    actions = outbox.add_subparsers(metavar="ACTION", required=True)
    for name, text, command in (
        ("status", "say what is held and what waits", _status),
        ("verify", "read every frame, and check each bundle and its chain; exit 1 if anything is wrong", _verify),
        ("export", "write what waits to a file, to be carried to a receiver by hand", _export),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
        action.add_argument("--json", action="store_true", help="one line of JSON")
        action.set_defaults(command=command)
    action.add_argument("--all", action="store_true", help="also what is receipted and still held")
    action.add_argument("target", type=Path, metavar="FILE", help="`iomt-receiver import FILE` takes it")


def _directory(arguments: argparse.Namespace) -> Path:
    return load(arguments.config, GatewayConfig).gateway.state_dir / "outbox"


def _status(arguments: argparse.Namespace) -> int:
    found = survey(_directory(arguments))
    _show(found, arguments)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    found = survey(_directory(arguments))
    _show(found, arguments)
    if not arguments.json:
        for fault in found.faults:
            print(f"{fault.segment}: byte {fault.offset}: {fault.what}")
        print("everything else can be read" if found.faults else "everything can be read, and every chain holds")
    return 1 if found.faults else 0


def _show(found: Survey, arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps(asdict(found)))
    else:
        common.show({**asdict(found), "faults": len(found.faults)})


def _export(arguments: argparse.Namespace) -> int:
    target: Path = arguments.target
    if target.exists():
        raise ConfigError(f"{target} exists: name a file that does not")
    count = export(_directory(arguments), target, everything=arguments.all)
    if arguments.json:
        print(json.dumps({"file": str(target), "bundles": count, "bytes": target.stat().st_size}))
    else:
        print(f"{target}: {count} bundles; on the receiver: iomt-receiver import {target.name}")
    return 0
