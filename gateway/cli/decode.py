"""`iomt-gateway decode`: what a characteristic's octets mean."""

import argparse
import sys
from collections.abc import Iterator

from gateway.cli import common
from gateway.errors import ConfigError

_STDIN = "-"
_E2E_CRC = {"on": True, "off": False, "infer": None}


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    decode = commands.add_parser(
        "decode",
        help="decode a health characteristic",
        description="Decode a value, or with `-` lines of `CHARACTERISTIC HEX` from standard input, one answer a line.",
        epilog='Exit status: 0 if every input was answered, which with --json or `-` an {"ok": false} does; else 1 for'
        " a value that breaks its specification, 2 for a wrong command line.",
    )
    decode.add_argument("--json", action="store_true", help="one line of JSON")
    decode.add_argument("--e2e-crc", choices=_E2E_CRC, default="infer", help="do CGM values end with a CRC?")
    decode.add_argument("characteristic", metavar="CHARACTERISTIC", help="UUID, SFLOAT, FLOAT, or `-`")
    decode.add_argument("hex", metavar="HEX", nargs="?", help="the octets; `-` for none")
    decode.set_defaults(command=_decode)


def _lines() -> Iterator[str]:
    """Lines of standard input; of one that is too long, as much as shows that it is."""
    from gateway.health.line import LINE_MAX

    read = sys.stdin.buffer.readline
    while line := read(LINE_MAX):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = read(LINE_MAX)
        yield line.decode(errors="replace")


def _decode(arguments: argparse.Namespace) -> int:
    from gateway.health.line import decode_line, fields, to_json

    e2e_crc = _E2E_CRC[arguments.e2e_crc]
    if arguments.characteristic == _STDIN and arguments.hex is None:
        for line in _lines():
            print(decode_line(line, e2e_crc=e2e_crc), flush=True)
        return 0
    if arguments.hex is None:
        raise ConfigError("give the octets as HEX, or `-` alone to read lines from standard input")
    if arguments.json:
        print(decode_line(f"{arguments.characteristic} {arguments.hex}", e2e_crc=e2e_crc))
    else:
        told = fields(arguments.characteristic, arguments.hex, e2e_crc=e2e_crc)
        common.show({name: to_json(value) for name, value in told.items()})
    return 0
