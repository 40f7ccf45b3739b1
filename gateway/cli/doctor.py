"""`iomt-gateway doctor`: what is wrong with this box, by which evidence, and what mends it."""

import argparse
import asyncio
import datetime as dt
import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from gateway.cli import common
from gateway.control.doctor.examine import examine
from gateway.control.doctor.findings import Finding, Level

_COLUMNS = 80
_INDENT = 6


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    doctor = commands.add_parser(
        "doctor",
        help="examine this box: clock, network, certificates, Bluetooth, disk; whether the gateway runs or not",
        description="Examine this box and change nothing. Run it as the service's user, or as root."
        " Exit status: 0 nothing fails (warnings are told), 1 something does, 2 it could not be examined.",
    )
    doctor.set_defaults(command=_doctor)
    add_arguments(doctor, common.GATEWAY_CONFIG)


def add_arguments(parser: argparse.ArgumentParser, config: Path) -> None:
    """What every doctor takes."""
    parser.add_argument("--config", type=Path, default=config, metavar="FILE", help=common.DEFAULT)
    parser.add_argument(
        "--advisories", type=Path, metavar="FILE", help="OSV's export of PyPI (all.zip): are versions vulnerable?"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON")


def _doctor(arguments: argparse.Namespace) -> int:
    now = dt.datetime.now(dt.UTC)
    return tell(asyncio.run(examine(arguments.config, arguments.advisories, now)), as_json=arguments.json)


def tell(findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print findings; the exit status."""
    counts = Counter(each.level for each in findings)
    if as_json:
        print(
            json.dumps({"findings": [asdict(each) for each in findings], **{level: counts[level] for level in Level}})
        )
    else:
        for each in findings:
            print(_wrapped(f"{each.level.upper():4}  {each.check}: {each.evidence}"))
            if each.fix:
                print(_wrapped(f"{'':{_INDENT}}-> {each.fix}"))
        print(f"{counts[Level.OK]} ok, {counts[Level.WARN]} to look at, {counts[Level.FAIL]} to mend")
    return 1 if counts[Level.FAIL] else 0


def _wrapped(line: str) -> str:
    return textwrap.fill(line, _COLUMNS, subsequent_indent=" " * (_INDENT + 3), break_long_words=False)
