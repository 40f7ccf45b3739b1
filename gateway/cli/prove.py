"""`iomt-gateway prove`: the acceptance test of a box, before it is taken into use."""

import argparse
import json
from pathlib import Path

from gateway.cli import common
from gateway.config import GatewayConfig, load
from gateway.errors import ConfigError


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    prove = commands.add_parser(
        "prove",
        help="prove on this machine that nothing is lost",
        description="Run the whole system with virtual wearables under faults, and compare what was measured with what"
        " was stored. Exit status: 0 pass, 1 fail, 2 invalid (a fault took no effect) or a wrong command line.",
    )
    prove.add_argument("--seconds", type=float, default=240, help="time of the faults (%(default)s)")
    prove.add_argument("--wearables", type=int, default=6, metavar="N", help="CGM, oximeter, meter, ... (%(default)s)")
    prove.add_argument("--rate", type=float, default=1.0, help="readings/s of each wearable (%(default)s)")
    prove.add_argument("--seed", type=int, default=1, help="the same seed gives the same schedule (%(default)s)")
    prove.add_argument("--faults", default="all", metavar="LIST", help="names, by commas; `help` lists them")
    prove.add_argument("--json", action="store_true", help="end with one line of JSON")
    prove.add_argument("--config", type=Path, metavar="FILE", help="sign the report with this gateway's key")
    prove.add_argument("--check", type=Path, metavar="REPORT", help="do not run: verify a report's signature")
    prove.add_argument("--signer", type=Path, metavar="CERT", help="whose signature --check demands")
    prove.set_defaults(command=_prove)


def _prove(arguments: argparse.Namespace) -> int:
    try:
        from rich.console import Console

        from gateway.lab import prove, report
    except ModuleNotFoundError as error:
        raise ConfigError(f"prove: {error.name} is missing; install iomt-gateway[lab]") from error
    if arguments.check:
        if not arguments.signer:
            raise ConfigError("--check needs --signer: the certificate of whom you trust to have signed")
        told = report.check(arguments.check, arguments.signer)
        print(f"{arguments.check}: {told['verdict']}, as signed by the owner of {arguments.signer}")
        return 0
    order = prove.Order(
        seconds=arguments.seconds,
        wearables=arguments.wearables,
        rate=arguments.rate,
        seed=arguments.seed,
        faults=prove.choose(arguments.faults),
    )
    signing = load(arguments.config, GatewayConfig).identity if arguments.config else None
    done = prove.execute(order, signing, Console())
    if arguments.json:
        print(json.dumps(done.summary()))
    return report.STATUS[done.word]
