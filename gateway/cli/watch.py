"""`iomt-gateway watch`: what happens, live, until Ctrl-C; a daemon that restarts is waited for."""

import argparse
import asyncio
import datetime as dt
import json
import shutil
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from gateway.cli import common, terminal, words
from gateway.cli.judge import STYLES, judge, link, worst
from gateway.cli.terminal import Style, styled
from gateway.cli.wearables import WEARABLES, listing
from gateway.config import GatewayConfig, load
from gateway.control import api
from gateway.control.client import Client
from gateway.errors import GatewayError, NoAnswerError
from gateway.model import SECURITY_EVENTS

_STATUS: Final = TypeAdapter(api.Status)
_READING: Final = TypeAdapter(api.ReadingSeen)
_AGAIN_S = 1.0
_SILENT_S = 10.0
_KEPT = 200
_CLEAR = "\033[H\033[J"


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    watch = commands.add_parser(
        "watch",
        help="what happens, live",
        description="Show what happens, live, until Ctrl-C. A terminal is redrawn; a pipe gets a line for each thing."
        " Readings are shown only with --values, which is noted in the audit log.",
    )
    watch.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    watch.add_argument("--values", action="store_true", help="also what wearables measure (operator)")
    watch.add_argument("--json", action="store_true", help="JSON, an object a line")
    watch.set_defaults(command=_watch)


def _watch(arguments: argparse.Namespace) -> int:
    client = Client(load(arguments.config, GatewayConfig))
    if arguments.json:
        view: View = Lines(as_json=True)
    else:
        view = Screen() if terminal.moves(sys.stdout) else Lines(as_json=False)

    async def main() -> None:
        await client.call("GET", "/v1/status")  # what is wrong from the start on is not waited for
        async with asyncio.TaskGroup() as group:
            group.create_task(_follow(client, view, "/v1/events", _SILENT_S))
            if arguments.values:
                group.create_task(_follow(client, view, "/v1/readings", None))

    try:
        asyncio.run(main())
    except* (GatewayError, BrokenPipeError) as group:
        raise group.exceptions[0] from None
    finally:
        view.end()
    return 0


async def _follow(client: Client, view: "View", path: str, silent_s: float | None) -> None:
    """Show what is told at `path`, for ever. Raises `ControlError` if this person may not."""
    while True:
        with suppress(NoAnswerError):
            async with aclosing(client.listen(path, silent_s=silent_s)) as events:
                async for name, data in events:
                    match name:
                        case "status":
                            wearables = await client.get("/v1/devices", WEARABLES)
                            view.status(_STATUS.validate_python(data), wearables)
                        case "event":
                            view.event(data)
                        case "reading":
                            view.reading(_READING.validate_python(data))
        if path == "/v1/events":
            view.away()
        await asyncio.sleep(_AGAIN_S)


class View:
    """Somewhere that what happens is shown."""

    def status(self, status: api.Status, wearables: tuple[api.Wearable, ...]) -> None:
        """How it is now."""

    def event(self, event: dict[str, Any]) -> None:
        """Something happened."""

    def reading(self, reading: api.ReadingSeen) -> None:
        """A wearable measured something."""

    def away(self) -> None:
        """The daemon does not answer."""

    def end(self) -> None:
        """Nobody watches any more."""


class Lines(View):
    """A line for whatever changes."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._told: dict[str, object] = {}
        self._names: dict[str, str] = {}

    def status(self, status: api.Status, wearables: tuple[api.Wearable, ...]) -> None:
        """What is otherwise than it was."""
        self._names = {each.known.address: words.called(each.known) for each in wearables}
        level = worst(judge(status, wearables, None))
        now: dict[str, object] = {
            "gateway": level.word,
            "uplink": "online" if status.online else "offline",
            "Bluetooth": status.adapter,
            **{each.known.address: words.STATES.get(each.now.state, each.now.state) for each in wearables},
        }
        for about, what in now.items():
            if self._told.get(about) != what:
                self._say("state", f"{self._called(about)}: {what}", about=about, state=what)
        self._told = now

    def event(self, event: dict[str, Any]) -> None:
        """As a line."""
        self._say("event", _happened(event, self._names), **event)

    def reading(self, reading: api.ReadingSeen) -> None:
        """As a line."""
        facts = _READING.dump_python(reading)
        self._say("reading", f"{self._called(reading.device)}: {words.measured(reading)}", **facts)

    def away(self) -> None:
        """Once each time."""
        if self._told.get("gateway") != "away":
            self._told = {"gateway": "away"}
            self._say("state", "gateway: does not answer; waiting for it", about="gateway", state="away")

    def _called(self, about: str) -> str:
        name = self._names.get(about)
        return f"{about} ({name})" if name else about

    def _say(self, kind: str, text: str, **facts: object) -> None:
        now = dt.datetime.now().astimezone()
        print(json.dumps({"event": kind, **facts}) if self._as_json else f"{now:%H:%M:%S}  {text}", flush=True)


class Screen(View):
    """The terminal, drawn anew whenever something changes: state above, what happened below, the newest first."""

    def __init__(self) -> None:
        self._status: api.Status | None = None
        self._wearables: tuple[api.Wearable, ...] = ()
        self._away = False
        self._values: dict[str, api.ReadingSeen] = {}
        self._events: deque[str] = deque(maxlen=_KEPT)

    def status(self, status: api.Status, wearables: tuple[api.Wearable, ...]) -> None:
        """The upper half."""
        self._status, self._away = status, False
        self._wearables = tuple(sorted(wearables, key=lambda each: -link(each).level))
        self._draw()

    def event(self, event: dict[str, Any]) -> None:
        """On top of the lower half."""
        names = {each.known.address: words.called(each.known) for each in self._wearables}
        line = f"{dt.datetime.now().astimezone():%H:%M:%S}  {_happened(event, names)}"
        line = terminal.fit(line, terminal.columns())
        self._events.appendleft(styled(line, Style.RED) if event["code"] in SECURITY_EVENTS else line)
        self._draw()

    def reading(self, reading: api.ReadingSeen) -> None:
        """In the place of the last of its kind."""
        self._values[f"{reading.device} {reading.metric}"] = reading
        self._draw()

    def away(self) -> None:
        """Above everything."""
        self._away = True
        self._draw()

    def end(self) -> None:
        """Leave the last picture."""
        print()

    def _draw(self) -> None:
        rows = shutil.get_terminal_size((80, 24)).lines - 1
        lines = list(self._above(rows - 4))
        room = rows - len(lines) - 1
        if room > 1:
            lines += ["", *list(self._events)[: room - 1]]
        print(_CLEAR + "\n".join(lines[:rows]), end="", flush=True)

    def _above(self, rows: int) -> Iterator[str]:
        now = f"{dt.datetime.now().astimezone():%H:%M:%S}"
        if self._away or self._status is None:
            yield f"{styled('red', Style.RED)}  {now}  the gateway does not answer; waiting for it (Ctrl-C ends)"
            return
        status = self._status
        level = worst(judge(status, self._wearables, None))
        yield f"{status.gateway}: {styled(level.word, STYLES[level])}  {now}  (Ctrl-C ends)"
        uplink = "online" if status.online else "offline"
        waiting = words.count(status.bundles_waiting, "bundle")
        yield f"uplink {uplink}, {waiting} waiting; clock {status.clock}; adapter {status.adapter}"
        yield ""
        table = list(listing(self._wearables)) if self._wearables else ["There are no wearables yet."]
        values = [f"{self._name(each.device)}: {words.measured(each)}" for each in self._values.values()]
        if values:
            table += ["", *(terminal.fit(value, terminal.columns()) for value in values)]
        if len(table) > rows - 3:
            hidden = len(table) - rows + 4
            table = [*table[: rows - 4], f"... and {words.count(hidden, 'line')} more: iomt-gateway devices list"]
        yield from table

    def _name(self, address: str) -> str:
        return next((words.called(each.known) for each in self._wearables if each.known.address == address), address)


def _happened(event: dict[str, Any], names: dict[str, str]) -> str:
    """An event of `docs/format.md` in words."""
    details: list[object] = event["details"]
    subject = ""
    if details and isinstance(details[0], str):
        subject = f"{names.get(details[0]) or terminal.plain(details[0])}: "
        details = details[1:]
    told = " ".join(terminal.plain(str(each)) for each in details if each is not None)
    return f"{subject}{words.HAPPENED.get(event['code'], event['code'])}{f' ({told})' if told else ''}"
