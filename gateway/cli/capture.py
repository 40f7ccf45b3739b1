"""`iomt-gateway capture`: what a wearable shows and says, for a bug report."""

import argparse
import asyncio
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from bleak.exc import BleakError

from gateway.ble.capture import Capture, Tell
from gateway.ble.pairing import Prompt
from gateway.cli import common, daemon
from gateway.config import GatewayConfig, load
from gateway.errors import ConfigError, LinkError, PairingError

_PROGRESS = 100
_ADDRESS: Final = re.compile(r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}")


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    capture = commands.add_parser(
        "capture",
        help="record a wearable's services and frames for a bug report",
        description="Read what can be read, listen to everything, have the stored records sent, and change nothing."
        " The gateway must not be running, and the wearable must be paired already. Values are health data:"
        " give --no-values, or share the file only with consent.",
    )
    capture.add_argument("address", metavar="ADDRESS", type=_address, help="Bluetooth address")
    capture.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    capture.add_argument("--out", type=Path, default="capture.jsonl", metavar="FILE", help="JSON lines (%(default)s)")
    capture.add_argument("--seconds", type=float, default=60.0, metavar="N", help="how long to listen (%(default)g)")
    capture.add_argument("--no-values", action="store_true", help="lengths in place of values")
    capture.add_argument("--json", action="store_true", help="what was captured, as one line of JSON")
    capture.set_defaults(command=_capture)


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text.upper()):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a Bluetooth address, six octets as F0:00:00:00:01:01")
    return text.upper()


def _capture(arguments: argparse.Namespace) -> int:
    config = load(arguments.config, GatewayConfig)
    path: Path = arguments.out
    kinds: Counter[str] = Counter()
    with _created(path) as file:

        def tell(line: Mapping[str, object]) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()
            kinds.update(line.keys())
            if "notify" in line and kinds["notify"] % _PROGRESS == 0:
                print(f"{kinds['notify']} values heard", file=sys.stderr)

        asyncio.run(_run(config, arguments, tell))
    if arguments.json:
        print(json.dumps({"file": str(path), "read": kinds["read"], "heard": kinds["notify"]}))
    else:
        print(f"{path}: {kinds['read']} characteristics read, {kinds['notify']} values heard")
    return 0


@contextmanager
def _created(path: Path) -> Iterator[TextIO]:
    """A file that only its owner may read; it goes again if nothing was written. Raises `ConfigError`."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path}: exists; name another file with --out") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        try:
            yield file
        finally:
            if not file.tell():
                path.unlink()


async def _run(config: GatewayConfig, arguments: argparse.Namespace, tell: Tell) -> None:
    radio = daemon.radio(config)
    if radio is None:
        raise ConfigError("ble.adapter: is none; name one that can reach the wearable")
    capture = Capture(values=not arguments.no_values, tell=tell)
    await radio.open(_nobody_pairs)
    try:
        client = await radio.connect(
            arguments.address, timeout_s=config.ble.connect_timeout_s, on_disconnect=capture.end
        )
        try:
            await capture.run(client, seconds=arguments.seconds)
        finally:
            await client.disconnect()
    except (BleakError, TimeoutError) as error:
        raise LinkError(f"{arguments.address}: {error}") from error
    finally:
        await radio.close()


async def _nobody_pairs(prompt: Prompt) -> int:
    raise PairingError(f"{prompt.address}: asks to pair")
