"""`iomt-receiver keys`: the keys that open what gateways seal, and the list that tells gateways of them."""

import argparse
import datetime as dt
import json
import time
from pathlib import Path

from gateway.cli import common, site
from gateway.errors import ConfigError
from gateway.receiver.fleet import Fleet
from gateway.receiver.site import Site


def add_parser(commands: common.Subparsers) -> None:
    """Add the commands."""
    keys = commands.add_parser("keys", help="recipient keys: to whom gateways seal").add_subparsers(
        metavar="ACTION", required=True
    )
    _add(keys, "new", "make a key; gateways learn of it by `rotate`", _new)
    rotate = _add(keys, "rotate", "tell gateways to seal to the newest key alone, from the next epoch on", _rotate)
    site.add_passphrase_argument(rotate)
    destroy = _add(keys, "destroy", "delete a key that no gateway seals to; what it alone opens is gone", _destroy)
    destroy.add_argument("kid", metavar="KID")
    destroy.add_argument("--yes", action="store_true", help="really")
    listing = _add(keys, "list", "every key, and which gateways seal to", _list)
    listing.add_argument("--json", action="store_true", help="one line of JSON each")


def _add(actions: common.Subparsers, name: str, text: str, command: common.Command) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text)
    parser.add_argument("directory", type=Path, metavar="DIR", help="the site's directory")
    parser.set_defaults(command=command)
    return parser


def _fleet(arguments: argparse.Namespace) -> Fleet:
    place = Site(arguments.directory)
    return Fleet(place.receiver, place.offline)


def _new(arguments: argparse.Namespace) -> int:
    made = _fleet(arguments).new()
    print(f"{made.path}: {made.key.kid.hex()}; copy it to every receiver before: iomt-receiver keys rotate")
    return 0


def _rotate(arguments: argparse.Namespace) -> int:
    made = _fleet(arguments).rotate(passphrase=site.passphrase(arguments), now_ms=time.time_ns() // 1_000_000)
    until = dt.datetime.fromtimestamp(made.not_after_ms / 1000, dt.UTC)
    print(f"key list {made.serial}: gateways seal to {', '.join(each.kid.hex() for each in made.recipients)}")
    print(f"the receiver publishes it within seconds; gateways accept it until {until:%Y-%m-%d}")
    return 0


def _destroy(arguments: argparse.Namespace) -> int:
    if not arguments.yes:
        raise ConfigError("what is sealed to this key alone, and not stored yet, will never open; say --yes")
    try:
        kid = bytes.fromhex(arguments.kid)
    except ValueError:
        raise ConfigError(f"KID: {arguments.kid} is not hexadecimal") from None
    print(f"{_fleet(arguments).destroy(kid)}: destroyed")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    fleet = _fleet(arguments)
    listed = fleet.key_list()
    kids = {each.kid for each in listed.recipients}
    for each in fleet.files():
        in_use = each.key.kid in kids
        if arguments.json:
            print(json.dumps({"kid": each.key.kid.hex(), "file": str(each.path), "sealed_to": in_use}))
        else:
            print(f"{each.key.kid.hex()}  {'gateways seal to it' if in_use else 'opens only':20} {each.path}")
    return 0
