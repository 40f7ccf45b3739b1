"""`iomt-gateway certs dev`: a throw-away PKI for development and the demo."""

import argparse
from pathlib import Path

from gateway.cli import common


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    certs = commands.add_parser("certs", help="make certificates for development").add_subparsers(
        metavar="ACTION", required=True
    )
    dev = certs.add_parser("dev", help="mint a throw-away CA, keys, key list and configuration; what exists is kept")
    dev.add_argument("--out", type=Path, required=True, metavar="DIR")
    dev.add_argument("--gateway", action="append", metavar="ID", help="a gateway's id; may be given more than once")
    dev.set_defaults(command=_dev)


def _dev(arguments: argparse.Namespace) -> int:
    from gateway.lab.pki import make_dev_pki
    from gateway.lab.site import write_configurations

    gateways = arguments.gateway or ["gw-001"]
    make_dev_pki(arguments.out, gateways)
    written = write_configurations(arguments.out, gateways[0])
    print(f"{arguments.out}: throw-away CA, broker, receiver, {', '.join(gateways)}; never use it for patients")
    print(f"configured for it: {' and '.join(map(str, written))}")
    return 0
