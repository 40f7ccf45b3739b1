"""`iomt-gateway status`: what is green, amber or red, and what to do, on one screen."""

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from gateway.cli import common, terminal, words
from gateway.cli.judge import STYLES, Finding, Level, judge, worst
from gateway.cli.terminal import styled, wrapped
from gateway.cli.wearables import WEARABLES
from gateway.config import GatewayConfig, load
from gateway.control import api
from gateway.control.client import Client

STATUS: Final = TypeAdapter(api.Status)
IDENTITY: Final = TypeAdapter(api.Identity)
_ABOUT = 16
_INDENT = 7
_ROWS = 20
"""So that it is one screen of 24."""


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    status = commands.add_parser(
        "status",
        help="how the gateway is, and what to do",
        description="How the running gateway is, and what to do. Exit status: 0 all is green; 1 amber: something wants"
        " attention; 2 red: something does not work, or the gateway does not answer.",
    )
    status.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    status.add_argument(
        "--all", action="store_true", help="also each wearable that is well, on as many lines as it takes"
    )
    status.add_argument("--json", action="store_true", help="one line of JSON")
    status.set_defaults(command=_status)


def _status(arguments: argparse.Namespace) -> int:
    client = Client(load(arguments.config, GatewayConfig))

    async def ask() -> tuple[api.Status, tuple[api.Wearable, ...], api.Identity]:
        return (
            await client.get("/v1/status", STATUS),
            await client.get("/v1/devices", WEARABLES),
            await client.get("/v1/identity", IDENTITY),
        )

    status, wearables, identity = asyncio.run(ask())
    findings = judge(status, wearables, identity)
    if arguments.json:
        told = [{**asdict(each), "level": each.level.word} for each in findings]
        print(json.dumps({"level": worst(findings).word, "findings": told, **asdict(status)}))
    else:
        print("\n".join(_screen(status, findings, everything=arguments.all)))
    return worst(findings)


def _screen(status: api.Status, findings: Sequence[Finding], *, everything: bool) -> Iterator[str]:
    level = worst(findings)
    running = f"version {status.version}, running for {words.lasting(status.uptime_s)}"
    yield f"{status.gateway}: {styled(level.word, STYLES[level])}  ({running})"
    yield ""
    of_box = [each for each in findings if not each.address]
    of_wearables = sorted((each for each in findings if each.address), key=lambda each: -each.level)
    shown = [line for each in of_box for line in lines(each)]
    for no, finding in enumerate(of_wearables):
        more = list(lines(finding))
        if not everything and (finding.level is Level.GREEN or len(shown) + len(more) > _ROWS):
            shown += lines(_rest(of_wearables[no:]))
            break
        shown += more
    yield from shown


def _rest(findings: Sequence[Finding]) -> Finding:
    """What is not told of wearables one by one."""
    well = worst(findings) is Level.GREEN
    says = f"{words.count(len(findings), 'wearable')} linked, or waiting for a reading"
    return Finding(worst(findings), "wearables", says if well else f"{len(findings)} more: iomt-gateway status --all")


def lines(finding: Finding) -> Iterator[str]:
    """A finding for a person."""
    word = styled(terminal.pad(finding.level.word, _INDENT - 2), STYLES[finding.level])
    about = terminal.pad(terminal.fit(finding.about, _ABOUT), _ABOUT)
    first, *more = wrapped(terminal.plain(finding.says), indent=_INDENT + _ABOUT + 2).splitlines()
    yield f"{word}  {about}  {first.lstrip()}"
    yield from more
    if finding.todo:
        yield from wrapped(f"-> {terminal.plain(finding.todo)}", indent=_INDENT).splitlines()
