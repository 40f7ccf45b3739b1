"""`iomt-receiver init`: a whole site in one command."""

import argparse
import datetime as dt
import getpass
import json
import os
import sys
from contextlib import closing
from pathlib import Path

from gateway.cli import common
from gateway.errors import ConfigError
from gateway.identity.chain import fingerprint
from gateway.identity.files import read_private
from gateway.receiver.ca.authority import Authority
from gateway.receiver.site import Site, create

CODE_HOURS = 24.0
_PACKAGED = Path("/var/lib/iomt-site")
"""Where the units of the package look for a site."""
_ASK = Path("-")


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    init = commands.add_parser("init", help="make a site: CA, keys, key list, broker and receiver configuration")
    add_site_arguments(init)
    init.add_argument("--gateway", default="gw-001", metavar="ID", help="the first gateway's id (%(default)s)")
    init.add_argument("--json", action="store_true", help="one line of JSON")
    init.set_defaults(command=_init)


def add_site_arguments(parser: argparse.ArgumentParser) -> None:
    """What a site must be told when it is made."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="must be new")
    parser.add_argument("--host", required=True, metavar="NAME", help="name or address by which gateways reach it")
    parser.add_argument("--broker-port", type=int, default=8883, metavar="N", help="%(default)s")
    parser.add_argument("--enrolment-port", type=int, default=8443, metavar="N", help="%(default)s")
    parser.add_argument(
        "--ca-passphrase-file",
        type=Path,
        metavar="FILE",
        help="encrypts the issuing key in DIR/ca; `ca serve` reads it there (mode 0600; - asks, now and at each start)",
    )
    add_passphrase_argument(parser)


def add_passphrase_argument(parser: argparse.ArgumentParser) -> None:
    """How the keys in DIR/offline are encrypted."""
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="encrypts the keys in DIR/offline (mode 0600; - asks)"
    )


def passphrase(arguments: argparse.Namespace) -> bytes | None:
    """What encrypts the offline keys; None: nothing. Raises `ConfigError`, `IdentityError`."""
    return _secret(arguments.passphrase_file, "Passphrase of the offline keys: ")


def _secret(path: Path | None, prompt: str) -> bytes | None:
    if path is None:
        return None
    secret = getpass.getpass(prompt).encode() if path == _ASK else read_private(path).strip()
    if not secret:
        raise ConfigError(f"{path}: holds no passphrase")
    return secret


def unlocked(site: Site) -> Authority:
    """The site's CA; a person is asked for its keys' passphrase if nothing else tells it. Raises as `Site` does."""
    ask = site.wants_passphrase and sys.stdin.isatty()
    return site.authority(_secret(_ASK if ask else None, "Passphrase of the issuing key: "))


def make(arguments: argparse.Namespace, *, with_receiver: bool) -> Site:
    """Make the site that the command line describes."""
    return create(
        arguments.directory,
        arguments.host,
        broker_port=arguments.broker_port,
        enrolment_port=arguments.enrolment_port,
        passphrase=passphrase(arguments),
        ca_passphrase=_secret(arguments.ca_passphrase_file, "Passphrase of the issuing key: "),
        ca_passphrase_file=None if arguments.ca_passphrase_file == _ASK else arguments.ca_passphrase_file,
        with_receiver=with_receiver,
        now=dt.datetime.now(dt.UTC),
    )


def enrol_command(site: Site, gateway: str, *, hours: float) -> str:
    """What to type on a gateway, with a new one-time code."""
    now = dt.datetime.now(dt.UTC)
    with closing(site.authority()) as authority:
        code = authority.new_code(gateway, now=now, valid=dt.timedelta(hours=hours))
        root = authority.generations(now)[-1].root
    return f"iomt-gateway enrol --url {site.config().site.url} --otp {code} --ca-fingerprint {fingerprint(root)}"


def _init(arguments: argparse.Namespace) -> int:
    site = make(arguments, with_receiver=True)
    enrol = enrol_command(site, arguments.gateway, hours=CODE_HOURS)
    commands = _next(site)
    by_hand = len(commands) > 1
    if arguments.json:
        print(json.dumps({"site": str(site.root), "run": commands, "enrol": enrol}))
        return 0
    protection = "encrypted" if arguments.passphrase_file else "NOT encrypted: --passphrase-file would do that"
    print(
        f"{site.root}: CA, fleet root, receiver keys, key list, configuration and database are made; nothing runs.\n\n"
        f"Lock {site.offline} away on another medium ({protection}). It is needed to roll over the CA\n"
        "and to change recipient keys, not for daily work.\n\n"
        f"Run next{', each as a service of its own' if by_hand else ''}:"
    )
    for command in commands:
        print(f"  {command}")
    print(f"\nThen on the gateway, within {CODE_HOURS:g} hours (the code works once):\n  {enrol}")
    if by_hand and os.geteuid() == 0:
        print("\nThe CA and the receiver run as root now; give them accounts of their own for good.", file=sys.stderr)
    return 0


def _next(site: Site) -> list[str]:
    """What starts a site: the package's services, or each program as a service of one's own."""
    units = [f"iomt-{name}.service" for name in ("broker", "ca", "receiver")]
    if site.root == _PACKAGED and all((common.UNITS / unit).exists() for unit in units):
        return [f"systemctl start {' '.join(unit.removesuffix('.service') for unit in units)}"]
    return [
        f"mosquitto -c {site.broker / 'mosquitto.conf'}",
        f"iomt-receiver ca serve {site.root}",
        f"iomt-receiver run --config {site.root / 'receiver.toml'}",
    ]
