"""`iomt-receiver init-stream` and `nats-users`: a NATS cluster made ready for gateways."""

import argparse
import asyncio
from pathlib import Path

from gateway.cli import common
from gateway.config import load
from gateway.errors import ConfigError
from gateway.receiver.config import ReceiverConfig


def add_parser(commands: common.Subparsers) -> None:
    """Add both commands."""
    stream = commands.add_parser("init-stream", help="make the JetStream stream, before the first gateway connects")
    users = commands.add_parser("nats-users", help="print the users of a NATS cluster: every gateway of the registry")
    for parser, command in ((stream, _init_stream), (users, _users)):
        parser.add_argument("--config", type=Path, default=common.RECEIVER_CONFIG, metavar="FILE", help=common.DEFAULT)
        parser.set_defaults(command=command)


def _init_stream(arguments: argparse.Namespace) -> int:
    from gateway.identity.tls import client_context
    from gateway.receiver.jetstream import STREAM, init_stream

    config = load(arguments.config, ReceiverConfig)
    if not config.jetstream.servers:
        raise ConfigError(f"{arguments.config}: jetstream.servers names no node")
    tls = client_context(config.tls.ca, config.tls.cert, config.tls.key)
    made = asyncio.run(init_stream(config.jetstream, tls=tls, timeout_s=config.broker.connect_timeout_s))
    print(f"{STREAM}: {'made' if made else 'was there, and is right'}")
    return 0


def _users(arguments: argparse.Namespace) -> int:
    from gateway.receiver.jetstream import users
    from gateway.receiver.registry import Registry

    config = load(arguments.config, ReceiverConfig)
    print(users(Registry(config.receiver.registry).gateways()), end="")
    return 0
