"""`iomt-gateway`: the gateway's commands."""

import argparse
import importlib
import sys
from typing import Final

from gateway import __version__
from gateway.cli import common

_GROUPS: Final = {
    "run": "daemon",
    "status": "status",
    "doctor": "doctor",
    "devices": "devices",
    "watch": "watch",
    "audit": "audit_log",
    "config": "config",
    "certs": "certs",
    "decode": "decode",
    "capture": "capture",
    "outbox": "outbox",
    "prove": "prove",
    "vectors": "vectors",
    "enrol": "enrol",
    "identity": "identity",
    "firewall": "firewall",
    "backup": "backup",
    "restore": "restore",
    "support-bundle": "support",
    "wipe": "wipe",
    "completion": "completion",
}
"""Module of each command."""


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The whole command line; or, for `command`, no more of it than that: what is not needed is not imported."""
    top = argparse.ArgumentParser(
        prog="iomt-gateway",
        description="Secure device-to-cloud telemetry gateway for medical wearables. Not a certified medical device.",
    )
    top.add_argument("--version", action="version", version=f"iomt-gateway {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name in [_GROUPS[command]] if command in _GROUPS else _GROUPS.values():
        importlib.import_module(f"gateway.cli.{name}").add_parser(commands)
    return top


def main() -> None:
    """Entry point."""
    sys.exit(common.run(parser(sys.argv[1] if len(sys.argv) > 1 else None)))


if __name__ == "__main__":
    main()
