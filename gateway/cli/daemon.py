"""`iomt-gateway run`."""

import argparse
import asyncio
from pathlib import Path

from gateway.ble.bluez import BluezRadio
from gateway.ble.radio import Radio
from gateway.cli import common
from gateway.config import GatewayConfig, load
from gateway.errors import ConfigError, GatewayError
from gateway.observe import log


def add_parser(commands: common.Subparsers) -> None:
    """Add the commands."""
    run = commands.add_parser("run", help="run the gateway in the foreground")
    run.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    run.set_defaults(command=_run)


def radio(config: GatewayConfig) -> Radio | None:
    """The radio that the configuration names; virtual ones need the `lab` extra."""
    adapter = config.ble.adapter
    if adapter == "none":
        return None
    if not adapter.startswith("virtual:"):
        return BluezRadio(adapter)
    try:
        from gateway.lab.radio import VirtualRadio
    except ModuleNotFoundError as error:
        raise ConfigError(f"ble.adapter: {error.name} is missing; install iomt-gateway[lab]") from error
    return VirtualRadio(Path(adapter.removeprefix("virtual:")), config.gateway.state_dir / "bonds.json")


def _run(arguments: argparse.Namespace) -> int:
    from gateway.supervisor import Gateway

    config = load(arguments.config, GatewayConfig)
    log.configure(config.log.level, config.log.format)

    async def main() -> None:
        await Gateway(config).run(radio(config))

    try:
        asyncio.run(main())
    except* GatewayError as group:
        raise GatewayError("; ".join(str(error) for error in group.exceptions)) from group
    return 0
