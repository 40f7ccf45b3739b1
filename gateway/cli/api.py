"""`iomt-receiver api`: serve the read API, print its document, show who read what."""

import argparse
import asyncio
import json
import logging
from datetime import UTC, datetime
from pathlib import Path

from gateway.cli import common
from gateway.config import load
from gateway.observe import log, systemd
from gateway.receiver.config import ReceiverConfig

_log = logging.getLogger(__name__)


def add_parser(commands: common.Subparsers) -> None:
    """Add the group."""
    api = commands.add_parser("api", help="the read API: latest values, ranges, completeness")
    group = api.add_subparsers(metavar="COMMAND", required=True)
    serve = group.add_parser("serve", help="serve it in the foreground, to the certificates that [api] names")
    shown = group.add_parser("log", help="who read what, oldest first; fails where the log was changed")
    document = group.add_parser("openapi", help="print the OpenAPI document")
    for parser, command in ((serve, _serve), (shown, _show)):
        parser.add_argument("--config", type=Path, default=common.RECEIVER_CONFIG, metavar="FILE", help=common.DEFAULT)
        parser.set_defaults(command=command)
    shown.add_argument("--json", action="store_true", help="one line of JSON for each read")
    document.set_defaults(command=_openapi)


def _serve(arguments: argparse.Namespace) -> int:
    config = load(arguments.config, ReceiverConfig)
    log.configure(config.log.level, config.log.format)
    asyncio.run(_serve_for_ever(config))
    return 0


async def _serve_for_ever(config: ReceiverConfig) -> None:
    from gateway.receiver.api.server import serve

    async with serve(config):
        _log.info("the read API is served", extra={"listen": config.api.listen})
        systemd.notify("READY=1")
        await asyncio.Event().wait()


def _show(arguments: argparse.Namespace) -> int:
    from gateway.control.audit import verify
    from gateway.receiver.api.server import LOG

    config = load(arguments.config, ReceiverConfig)
    for entry, _ in verify(config.receiver.state_dir / LOG):
        if arguments.json:
            print(json.dumps(entry))
            continue
        at = datetime.fromtimestamp(entry["at_ms"] / 1000, UTC)
        what = "?".join(filter(None, (entry["what"]["path"], entry["what"]["query"])))
        print(f"{at:%Y-%m-%dT%H:%M:%SZ}  {entry['who']:20}  {entry['outcome']:8}  {what}")
    return 0


def _openapi(_: argparse.Namespace) -> int:
    from gateway.receiver.api.routes import openapi

    print(json.dumps(openapi(), indent=1))
    return 0
