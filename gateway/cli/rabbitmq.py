"""`iomt-receiver rabbitmq-users`: a RabbitMQ broker made ready for gateways."""

import argparse
from pathlib import Path

from gateway.cli import common
from gateway.config import load
from gateway.envelope.layout import GATEWAY_ID
from gateway.errors import ConfigError
from gateway.receiver.config import ReceiverConfig


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    users = commands.add_parser(
        "rabbitmq-users", help="print the definitions of a RabbitMQ broker: gateways of the registry, and others"
    )
    users.add_argument("gateway", nargs="*", metavar="GATEWAY", help="one that never connected yet")
    users.add_argument("--config", type=Path, default=common.RECEIVER_CONFIG, metavar="FILE", help=common.DEFAULT)
    users.set_defaults(command=_users)


def _users(arguments: argparse.Namespace) -> int:
    from gateway.receiver.rabbitmq import definitions
    from gateway.receiver.registry import Registry

    for gateway in arguments.gateway:
        if not GATEWAY_ID.fullmatch(gateway):
            raise ConfigError(f"{gateway!r}: no gateway can have this id")
    config = load(arguments.config, ReceiverConfig)
    print(definitions(Registry(config.receiver.registry).gateways() | set(arguments.gateway)), end="")
    return 0
