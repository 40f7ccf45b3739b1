"""`iomt-receiver signers`: whose signatures count for which gateway."""

import argparse
import json
from pathlib import Path

from gateway.cli import common
from gateway.config import load
from gateway.errors import ConfigError
from gateway.receiver.config import ReceiverConfig
from gateway.receiver.plan import Last
from gateway.receiver.registry import Registry


def add_parser(commands: common.Subparsers) -> None:
    """Add the commands."""
    actions = commands.add_parser("signers", help="whose signatures count for which gateway").add_subparsers(
        metavar="ACTION", required=True
    )
    listing = _add(actions, "list", "every signer, and which are revoked", _list)
    listing.add_argument("--json", action="store_true", help="one line of JSON each")
    allow = _add(actions, "allow", "let a gateway's next signer count that the one before did not announce", _allow)
    allow.add_argument("gateway", metavar="GATEWAY")
    allow.add_argument("kid", metavar="KID", help="as the receiver's log names it")
    revoke = _add(actions, "revoke", "let a gateway's signers count no more, at once", _revoke)
    revoke.add_argument("gateway", metavar="GATEWAY")
    revoke.add_argument("--kid", metavar="KID", help="this one alone")
    revoke.add_argument("--last", metavar="CHAIN:NO", help="the last bundle that still counts")


def _add(actions: common.Subparsers, name: str, text: str, command: common.Command) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text)
    parser.add_argument("--config", type=Path, default=common.RECEIVER_CONFIG, metavar="FILE", help=common.DEFAULT)
    parser.set_defaults(command=command)
    return parser


def _registry(arguments: argparse.Namespace) -> Registry:
    return Registry(load(arguments.config, ReceiverConfig).receiver.registry)


def _list(arguments: argparse.Namespace) -> int:
    registry = _registry(arguments)
    for kid, (gateway, key, dead) in registry.everyone().items():
        if arguments.json:
            print(json.dumps({"gateway": gateway, "kid": kid.hex(), "alg": key.alg, "revoked": dead}))
        else:
            print(f"{gateway:16} {kid.hex()}  {'revoked' if dead else 'counts'}")
    return 0


def _allow(arguments: argparse.Namespace) -> int:
    _registry(arguments).allow(arguments.gateway, _bytes(arguments.kid, "KID"))
    print(f"{arguments.gateway}: signer {arguments.kid} will count as soon as the gateway shows its certificate")
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    kid = None if arguments.kid is None else _bytes(arguments.kid, "--kid")
    last = None
    if arguments.last is not None:
        chain, _, number = arguments.last.partition(":")
        if not number.isdecimal():
            raise ConfigError("--last: is not CHAIN:NO")
        last = Last(_bytes(chain, "--last"), int(number))
    gone = _registry(arguments).revoke(arguments.gateway, kid, last)
    if not gone:
        raise ConfigError(f"{arguments.gateway}: has no such signer")
    print(f"{arguments.gateway}: {', '.join(map(bytes.hex, gone))} counts no more")
    return 0


def _bytes(text: str, name: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 16:  # noqa: PLR2004 - kids and chain ids, as in docs/format.md
        raise ConfigError(f"{name}: {text} is not 32 hexadecimal digits")
    return value
