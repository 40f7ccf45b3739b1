"""`iomt-gateway firewall print`."""

import argparse
import json
import socket
import sys
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path

from gateway import firewall
from gateway.cli import common
from gateway.config import GatewayConfig, load
from gateway.errors import ConfigError

_RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
"""Where a machine says whom it asks; the second one where the first names only systemd-resolved on this machine."""


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    group = commands.add_parser("firewall", help="let nothing leave or enter the box but what it needs")
    action = group.add_subparsers(metavar="ACTION", required=True).add_parser(
        "print", help="write an nftables ruleset that fits the configuration; load it with `nft -f`"
    )
    action.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    action.add_argument("--json", action="store_true", help="hosts and ports instead, as one line of JSON")
    action.add_argument("--unit", action="store_true", help="a drop-in for the service's unit instead")
    action.set_defaults(command=_print)


def _print(arguments: argparse.Namespace) -> int:
    config = load(arguments.config, GatewayConfig)
    leaving, entering = firewall.outbound(config, _name_servers()), firewall.inbound(config)
    if arguments.json:
        told = {"outbound": [asdict(each) for each in leaving], "inbound": [asdict(each) for each in entering]}
        print(json.dumps(told, default=str))
    elif arguments.unit:
        print(firewall.drop_in(leaving, entering, lookup), end="")
    else:
        print(firewall.ruleset(config.gateway.id, leaving, entering, lookup), end="")
    for note in firewall.notes(config):
        print(f"note: {note}", file=sys.stderr)
    return 0


def _name_servers() -> tuple[firewall.Address, ...]:
    for path in _RESOLVERS:
        if path.exists() and (found := firewall.name_servers(path.read_text(encoding="utf-8"))):
            return found
    return ()


def lookup(name: str) -> set[firewall.Address]:
    """Every address of a name. Raises `ConfigError`."""
    try:
        return {ip_address(str(found[4][0])) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{name} has no address now: {error}; the ruleset in force is left alone") from error
