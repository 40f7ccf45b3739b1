"""`iomt-gateway`: the gateway's commands."""

import argparse
import sys

from gateway import __version__
from gateway.cli import (
    acts,
    capture,
    certs,
    common,
    config,
    daemon,
    decode,
    doctor,
    enrol,
    firewall,
    identity,
    outbox,
    prove,
    vectors,
    wipe,
)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="iomt-gateway",
        description="Secure device-to-cloud telemetry gateway for medical wearables. Not a certified medical device.",
    )
    top.add_argument("--version", action="version", version=f"iomt-gateway {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for group in (
        daemon,
        doctor,
        acts,
        config,
        certs,
        decode,
        capture,
        outbox,
        prove,
        vectors,
        enrol,
        identity,
        firewall,
        wipe,
    ):
        group.add_parser(commands)
    return top


def main() -> None:
    """Entry point."""
    sys.exit(common.run(parser()))


if __name__ == "__main__":
    main()
