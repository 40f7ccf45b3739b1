"""`iomt-gateway run` and `status`."""

import argparse
import asyncio
import json
from pathlib import Path

import h11

from gateway.ble.bluez import BluezRadio
from gateway.ble.radio import Radio
from gateway.cli import common
from gateway.config import GatewayConfig, load
from gateway.control import api
from gateway.errors import ConfigError, GatewayError
from gateway.observe import http, log


def add_parser(commands: common.Subparsers) -> None:
    """Add the commands."""
    run = commands.add_parser("run", help="run the gateway in the foreground")
    run.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    run.set_defaults(command=_run)
    status = commands.add_parser("status", help="ask the running gateway how it is")
    status.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    status.add_argument("--json", action="store_true", help="one line of JSON")
    status.set_defaults(command=_status)


def radio(config: GatewayConfig) -> Radio | None:
    """The radio that the configuration names; virtual ones need the `lab` extra."""
    kind, _, path = config.ble.adapter.partition(":")
    if kind == "none":
        return None
    if kind != "virtual":
        return BluezRadio(kind)
    try:
        from gateway.lab.radio import VirtualRadio
    except ModuleNotFoundError as error:
        raise ConfigError(f"ble.adapter: {error.name} is missing; install iomt-gateway[lab]") from error
    return VirtualRadio(Path(path), config.gateway.state_dir / "bonds.json")


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


def _behind(seconds: float | None) -> str:
    if seconds is None:
        return "not seen"
    return f"{abs(seconds):.0f} s {'behind' if seconds > 0 else 'ahead of'} UTC"


def _status(arguments: argparse.Namespace) -> int:
    config = load(arguments.config, GatewayConfig)
    path = api.socket_path(config.gateway.state_dir)
    try:
        status = json.loads(asyncio.run(http.fetch("/v1/status", socket=path)))
    except (OSError, h11.RemoteProtocolError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: no gateway answers; is it running? (systemctl status iomt-gateway)") from error
    if arguments.json:
        print(json.dumps(status))
        return 0
    devices = status.pop("devices")
    common.show(status)
    for device in devices:
        print(
            f"  {device['address']}  {device['profile']:5}  {device['state']:9}  stored records: {device['backfill']}"
            f"  clock: {_behind(device['clock_behind_s'])}"
        )
    return 0
