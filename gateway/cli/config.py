"""`iomt-gateway config check`."""

import argparse
import json
import tomllib
from pathlib import Path

from gateway.cli import common
from gateway.config import GatewayConfig, load
from gateway.errors import ConfigError
from gateway.health.metrics import limits_by_code
from gateway.receiver.config import ReceiverConfig, SiteConfig


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    config = commands.add_parser("config", help="work with configuration files").add_subparsers(
        metavar="ACTION", required=True
    )
    check = config.add_parser("check", help="say whether a file is right, and name every wrong key")
    check.add_argument("file", type=Path)
    check.add_argument("--json", action="store_true", help="one line of JSON")
    check.set_defaults(command=_check)


def _check(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    try:
        _load(path)
    except ConfigError as error:
        if not arguments.json:
            raise
        print(json.dumps({"ok": False, "errors": str(error).splitlines()}))
        return 2
    print(json.dumps({"ok": True}) if arguments.json else f"{path}: right")
    return 0


def _load(path: Path) -> GatewayConfig | ReceiverConfig | SiteConfig:
    """The file as what its tables say it is; `load` names what is wrong with it."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        tables = {}
    if "site" in tables:
        return load(path, SiteConfig)
    if "receiver" in tables:
        return load(path, ReceiverConfig)
    config = load(path, GatewayConfig)
    try:
        limits_by_code(config.quality.bounds)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return config
