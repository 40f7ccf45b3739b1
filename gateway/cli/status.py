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


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    status = commands.add_parser(
        "status",
        help="how the gateway is, and what to do",
        description="How the running gateway is, and what to do. Exit status: 0 all is green; 1 amber: something wants"
        " attention; 2 red: something does not work, or the gateway does not answer.",
    )
    status.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    status.add_argument("--all", action="store_true", help="also each wearable that is well")
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
        print("\n".join(_screen(status, findings, wearables, everything=arguments.all)))
    return worst(findings)


def _screen(
    status: api.Status, findings: Sequence[Finding], wearables: Sequence[api.Wearable], *, everything: bool
) -> Iterator[str]:
    level = worst(findings)
    running = f"version {status.version}, running for {words.lasting(status.uptime_s)}"
    yield f"{status.gateway}: {styled(level.word, STYLES[level])}  ({running})"
    yield ""
    names = {words.called(each.known) for each in wearables}
    well = [each for each in findings if each.about in names and each.level is Level.GREEN and not everything]
    for finding in findings:
        if finding not in well:
            yield from lines(finding)
    if well:
        says = words.count(len(well), "wearable") + (" linked or waiting" if len(well) > 1 else f": {well[0].about}")
        yield from lines(Finding(Level.GREEN, "wearables", says))


def lines(finding: Finding) -> Iterator[str]:
    """A finding for a person."""
    word = styled(terminal.pad(finding.level.word, _INDENT - 2), STYLES[finding.level])
    about = terminal.pad(terminal.fit(finding.about, _ABOUT), _ABOUT)
    first, *more = wrapped(terminal.plain(finding.says), indent=_INDENT + _ABOUT + 2).splitlines()
    yield f"{word}  {about}  {first.lstrip()}"
    yield from more
    if finding.todo:
        yield wrapped(f"-> {terminal.plain(finding.todo)}", indent=_INDENT + _ABOUT + 2)
