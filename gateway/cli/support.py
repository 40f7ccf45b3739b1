"""`iomt-gateway support-bundle`: what a stranger needs to find a fault, and nothing of patients or keys."""

import argparse
import asyncio
import datetime as dt
import json
import os
from pathlib import Path

from gateway.cli import common
from gateway.errors import ConfigError


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    support = commands.add_parser(
        "support-bundle",
        help="gather what helps to find a fault, without patients' data, names, addresses or keys",
        description="Configuration, doctor, status, metrics, outbox, packages and the newest log, in one archive."
        " Wearables' addresses are shortened; readings, streams, names and keys are not in it. Look at it before you"
        " send it: tar -xzOf FILE | less",
    )
    support.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    support.add_argument("--json", action="store_true", help="one line of JSON")
    support.add_argument("file", type=Path, metavar="FILE", help="must be new; such as support.tar.gz")
    support.set_defaults(command=_support)


def _support(arguments: argparse.Namespace) -> int:
    from gateway.control.support import collect, packed

    now = dt.datetime.now(dt.UTC)
    parts = asyncio.run(collect(arguments.config, now))
    path: Path = arguments.file
    try:
        with os.fdopen(common.new_private(path), "wb") as file:
            file.write(packed(parts, now))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    if arguments.json:
        print(json.dumps({"file": str(path), "parts": sorted(parts), "bytes": path.stat().st_size}))
    else:
        print(f"{path}: {', '.join(sorted(parts))}. Look at it before you send it: tar -xzOf {path} | less")
    return 0
