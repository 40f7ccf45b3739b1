"""What every command shares: how errors end a process and where configuration lies by default."""

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.errors import ConfigError, GatewayError, NoAnswerError

GATEWAY_CONFIG = Path("/etc/iomt-gateway/gateway.toml")
DEFAULT = "configuration (%(default)s)"
RECEIVER_CONFIG = Path("/etc/iomt-gateway/receiver.toml")
UNITS = Path("/usr/lib/systemd/system")
"""Where the packages put their units."""

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - its type has no public name
else:
    Subparsers = argparse.Action
Command = Callable[[argparse.Namespace], int]
_EXTRAS = {
    "amqtt": "lab",
    "bumble": "lab",
    "rich": "lab",
    "nats": "receiver",
    "psycopg": "receiver",
    "simplejson": "receiver",
}
"""Which extra brings a module that the base does not have."""


def run(parser: argparse.ArgumentParser) -> int:
    """Parse the command line, run its command, and tell an error in one line.

    Exit status: what the command says; 2 for whatever a person has to mend; 130 after Ctrl-C; 1 if nobody reads on.
    """
    arguments = parser.parse_args()
    command: Command = arguments.command
    try:
        return _flushed(command(arguments))
    except GatewayError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2 if isinstance(error, (ConfigError, NoAnswerError)) else 1
    except ModuleNotFoundError as error:
        if (extra := _EXTRAS.get((error.name or "").partition(".")[0])) is None:
            raise
        print(f"{parser.prog}: {error.name} is missing; install iomt-gateway[{extra}]", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's last flush
        return 1
    except KeyboardInterrupt:
        return 130


def _flushed(status: int) -> int:
    """Write out what was said while a reader that has gone is no surprise yet: at the interpreter's end it is one."""
    sys.stdout.flush()
    return status


def within(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    """A type of argument: a number from `least` to `most`."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text}: is no number from {least:g} to {most:g}")
        return value

    return read


def new_private(path: Path) -> int:
    """The descriptor of a new file for what concerns patients or keys: its owner's alone. Raises `OSError`."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def show(value: dict[str, object]) -> None:
    """Print a flat object for a person."""
    width = max(map(len, value))
    for key, item in value.items():
        print(f"{key.replace('_', ' '):{width}}  {item}")
