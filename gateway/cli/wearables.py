"""Wearables on the command line: which one is meant, tables of them, and what is near."""

import argparse
import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Final

from pydantic import TypeAdapter

from gateway.ble.inventory import TEXT_MAX, Device
from gateway.cli import common, judge, terminal, words
from gateway.control import api
from gateway.control.client import Client
from gateway.errors import ConfigError

WEARABLES: Final = TypeAdapter(tuple[api.Wearable, ...])
FOUND: Final = TypeAdapter(tuple[api.Found, ...])
STREAM: Final = TypeAdapter(api.Stream)
DONE: Final = TypeAdapter(api.Done)
WEARABLE: Final = TypeAdapter(api.Wearable)
SCAN_S: Final = 10.0
_ANSWER_S = 10.0
SECONDS: Final = common.within(float, 0.1, 60)
"""A type of argument: for how long to listen."""
SHARED: Final = ("bcs", "bls", "wss")
"""Kinds that tell their users apart, where they have several."""
SLOT_MAX: Final = 255
SLOT: Final = common.within(int, 0, SLOT_MAX)
"""A type of argument: a user slot of a wearable that several share."""


async def named(daemon: Client, wanted: str) -> api.Wearable:
    """As `find`, among all that the daemon knows."""
    wearables = await daemon.get("/v1/devices", WEARABLES)
    return find(wearables, wanted)


def find(wearables: Sequence[api.Wearable], wanted: str) -> api.Wearable:
    """The one that `wanted` names: an address, the end of one, or what people call it.

    Raises `ConfigError` that says what there is.
    """
    if not wanted:
        raise ConfigError(f"no wearable is named; there is {_names(wearables) or 'none yet'}")
    plain = wanted.casefold()
    for fits in (_has_address, _has_name, _ends):
        found = [each for each in wearables if fits(each, plain)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ConfigError(f"{wanted}: could be {_names(found)}; give the address")
    if not wearables:
        raise ConfigError(f"{wanted}: this gateway has no wearables yet; iomt-gateway devices pair")
    raise ConfigError(f"{wanted}: is not a wearable of this gateway; there is {_names(wearables)}")


def _has_address(wearable: api.Wearable, wanted: str) -> bool:
    return wearable.known.address.casefold() == wanted


def _has_name(wearable: api.Wearable, wanted: str) -> bool:
    return wearable.known.name.casefold() == wanted


def _ends(wearable: api.Wearable, wanted: str) -> bool:
    return wearable.known.address.casefold().endswith(wanted)


def _names(wearables: Sequence[api.Wearable]) -> str:
    return ", ".join(f"{each.known.address} ({words.called(each.known)})" for each in wearables)


def listing(wearables: Sequence[api.Wearable]) -> Iterator[str]:
    """A table of wearables."""
    head = ("ADDRESS", "NAME", "KIND", "LINK", "HEARD", "BATTERY")
    rows = []
    for each in wearables:
        known = each.known
        battery = "-" if known.battery_pct is None else f"{known.battery_pct} %"
        link = (words.STATES.get(each.now.state, each.now.state), judge.STYLES[judge.link(each).level])
        name = known.name or words.make_and_model(known) or "-"
        rows.append((known.address, name, words.kind(known.profile), link, words.ago(known.last_seen_ms), battery))
    return terminal.table(head, rows, flexible=1)


def _what(found: api.Found) -> str:
    """Make and model; what it calls itself, where it does not tell the model yet."""
    called = found.model or found.name or ""
    make = found.make or ""
    told = called if called.casefold().startswith(make.casefold()) else f"{make} {called}".strip()
    return told or "-"


async def scan(daemon: Client, seconds: float) -> tuple[api.Found, ...]:
    """Listen, with progress. Raises `ControlError`."""
    async with terminal.progress("Listening for wearables", seconds):
        return await daemon.post("/v1/scan", FOUND, {"seconds": seconds}, timeout_s=seconds + _ANSWER_S)


def nearby(found: Sequence[api.Found], *, numbered: bool = False) -> Iterator[str]:
    """A table of what a scan heard."""
    head = ("ADDRESS", "MAKE AND MODEL", "KIND", "SIGNAL", "")
    rows = [
        (
            each.address,
            _what(each),
            ", ".join(map(words.kind, each.profiles)),
            words.signal(each.rssi_dbm),
            "known" if each.known else "" if numbered else "new",
        )
        for each in found
    ]
    if not numbered:
        return terminal.table(head, rows, flexible=1)
    return terminal.table(("NO", *head), [(f"{no:2}", *row) for no, row in enumerate(rows, start=1)], flexible=2)


def since(text: str | None) -> int | None:
    """Milliseconds since 1970 of `--since`; 0 for `all`, None for nothing. Raises `ConfigError`."""
    if text is None:
        return None
    if text == "all":
        return 0
    try:
        return int(dt.datetime.fromisoformat(text).astimezone(dt.UTC).timestamp() * 1000)
    except ValueError:
        raise ConfigError(f"--since {text}: is no time such as 2026-11-25T08:00, nor `all`") from None


def name(text: str) -> str:
    """A type of argument: what people call a wearable."""
    if len(text) > TEXT_MAX:
        raise argparse.ArgumentTypeError(f"is longer than {TEXT_MAX} characters")
    return text


def unnamed(known: Device) -> str:
    """What is not taken of a wearable that is assigned without a user slot, and the way out; empty: all is."""
    if known.profile not in SHARED and not known.users_seen:
        return ""
    return (
        "Only readings that name none of its users are taken. For those of one user:"
        f" iomt-gateway devices assign {known.address} --user N"
    )


def whose(stream: str) -> str:
    """What is left to say, on the receiver's side."""
    return f"Whose they are is said at the receiver:\n  iomt-receiver streams assign {stream} PATIENT"
