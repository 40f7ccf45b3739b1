"""`iomt-gateway doctor` and `iomt-receiver doctor`: what is wrong, by which evidence, and what mends it."""

import argparse
import asyncio
import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from gateway.cli import common
from gateway.cli.terminal import Style, plain, styled, wrapped
from gateway.control.doctor.findings import Finding, Level

_STYLES: Final = {Level.OK: Style.GREEN, Level.WARN: Style.AMBER, Level.FAIL: Style.RED, Level.SKIP: Style.FAINT}
_INDENT: Final = 6


def add_parser(commands: common.Subparsers) -> None:
    """Add the gateway's."""
    text = "examine this box: clock, network, certificates, Bluetooth, disk; whether the gateway runs or not"
    _add(commands, text, common.GATEWAY_CONFIG, _gateway)


def add_receiver_parser(commands: common.Subparsers) -> None:
    """Add the receiver's."""
    text = "examine this machine: store, keys, certificates, broker; whether the receiver runs or not"
    _add(commands, text, common.RECEIVER_CONFIG, _receiver)


def _add(commands: common.Subparsers, text: str, config: Path, command: common.Command) -> None:
    doctor = commands.add_parser(
        "doctor",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Changes nothing. Run it as the service's user, or as root."
        " Exit status: 0 nothing fails (warnings are told), 1 something does, 2 it could not be examined.",
    )
    doctor.add_argument("--config", type=Path, default=config, metavar="FILE", help=common.DEFAULT)
    doctor.add_argument(
        "--advisories", type=Path, metavar="FILE", help="OSV's export of PyPI (all.zip): are versions vulnerable?"
    )
    doctor.add_argument("--json", action="store_true", help="one line of JSON")
    doctor.set_defaults(command=command)


def _gateway(arguments: argparse.Namespace) -> int:
    from gateway.control.doctor.examine import examine

    now = dt.datetime.now(dt.UTC)
    return _tell(asyncio.run(examine(arguments.config, arguments.advisories, now)), as_json=arguments.json)


def _receiver(arguments: argparse.Namespace) -> int:
    from gateway.receiver.doctor import examine

    now = dt.datetime.now(dt.UTC)
    return _tell(examine(arguments.config, arguments.advisories, now), as_json=arguments.json)


def _tell(findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print findings; the exit status."""
    counts = Counter(each.level for each in findings)
    if as_json:
        print(
            json.dumps({"findings": [asdict(each) for each in findings], **{level: counts[level] for level in Level}})
        )
    else:
        for each in findings:
            print("\n".join(_lines(each)))
        words = {Level.OK: "ok", Level.WARN: "to look at", Level.FAIL: "to mend", Level.SKIP: "not looked at"}
        print(", ".join(f"{counts[level]} {word}" for level, word in words.items()))
    return 1 if counts[Level.FAIL] else 0


def _lines(finding: Finding) -> Iterator[str]:
    first, *more = wrapped(plain(f"{finding.check}: {finding.evidence}"), indent=_INDENT).splitlines()
    yield styled(f"{finding.level.upper():{_INDENT - 2}}", _STYLES[finding.level]) + "  " + first.lstrip()
    yield from more
    if finding.fix:
        yield wrapped(f"-> {plain(finding.fix)}", indent=_INDENT)
