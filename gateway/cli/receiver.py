"""`iomt-receiver`: the cloud side's commands."""

import argparse
import asyncio
import json
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from gateway import __version__
from gateway.cli import (
    api,
    audit,
    ca,
    common,
    completion,
    desk,
    doctor,
    erased,
    heads,
    nats,
    rabbitmq,
    recipients,
    signers,
    site,
    store,
)
from gateway.config import load
from gateway.errors import GatewayError
from gateway.observe import log
from gateway.receiver.config import ReceiverConfig


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="iomt-receiver", description="Verifies, opens and stores what gateways send.")
    top.add_argument("--version", action="version", version=f"iomt-receiver {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    run = commands.add_parser("run", help="run the receiver in the foreground")
    run.add_argument("--config", type=Path, default=common.RECEIVER_CONFIG, metavar="FILE", help=common.DEFAULT)
    run.set_defaults(command=_run)
    restored = commands.add_parser("restored", help="say once, before it runs, that the database came from a backup")
    restored.add_argument("--config", type=Path, default=common.RECEIVER_CONFIG, metavar="FILE", help=common.DEFAULT)
    restored.set_defaults(command=_restored)
    carried = commands.add_parser("import", help="take bundles from a file that `iomt-gateway outbox export` wrote")
    carried.add_argument("--config", type=Path, default=common.RECEIVER_CONFIG, metavar="FILE", help=common.DEFAULT)
    carried.add_argument("--json", action="store_true", help="one line of JSON")
    carried.add_argument("file", type=Path, metavar="FILE")
    carried.set_defaults(command=_import)
    for group in (audit, site, ca, store, nats, rabbitmq, recipients, signers, desk, erased, heads, api):
        group.add_parser(commands)
    doctor.add_receiver_parser(commands)
    completion.add_receiver_parser(commands)
    return top


def _restored(arguments: argparse.Namespace) -> int:
    from gateway.receiver.store import next_incarnation

    config = load(arguments.config, ReceiverConfig)
    incarnation = next_incarnation(config.receiver.state_dir)
    print(f"incarnation {incarnation}: gateways will send again what this store's receipts do not cover")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from gateway.receiver.carried import take_file
    from gateway.receiver.registry import Registry
    from gateway.receiver.worker import open_intake

    config = load(arguments.config, ReceiverConfig)
    intake = open_intake(config, Registry(config.receiver.registry))
    with closing(intake.store):
        carried = take_file(intake, arguments.file)
    if arguments.json:
        print(json.dumps(asdict(carried)))
    else:
        common.show(asdict(carried))
    return 1 if carried.refused else 0


def main() -> None:
    """Entry point."""
    sys.exit(common.run(parser()))


def _run(arguments: argparse.Namespace) -> int:
    from gateway.receiver import worker

    config = load(arguments.config, ReceiverConfig)
    log.configure(config.log.level, config.log.format)
    try:
        asyncio.run(worker.run(config))
    except* GatewayError as group:
        raise GatewayError("; ".join(str(error) for error in group.exceptions)) from group
    return 0


if __name__ == "__main__":
    main()
