"""`iomt-gateway devices`: what there is, what is near, whose it is, and its end here."""

import argparse
import asyncio
import datetime as dt
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from gateway.cli import common, judge, terminal, words
from gateway.cli.status import STYLES, WEARABLES
from gateway.cli.terminal import styled
from gateway.config import GatewayConfig, load
from gateway.control import api
from gateway.control.client import Client
from gateway.errors import ConfigError

FOUND: Final = TypeAdapter(tuple[api.Found, ...])
STREAM: Final = TypeAdapter(api.Stream)
DONE: Final = TypeAdapter(api.Done)
WEARABLE: Final = TypeAdapter(api.Wearable)
SCAN_S: Final = 10.0
_ANSWER_S = 10.0
_UNPAIR_S = 30.0


def add_parser(commands: common.Subparsers) -> None:
    """Add the commands."""
    group = commands.add_parser("devices", help="wearables: list, scan, pair, assign, unpair")
    actions = group.add_subparsers(metavar="ACTION", required=True)
    _add(actions, "list", "every wearable of this gateway", _list)
    scan = _add(actions, "scan", "which health wearables are near", _scan)
    scan.add_argument("--seconds", type=float, default=SCAN_S, metavar="N", help="how long to listen (%(default)g)")
    _add_one(actions, "show", "everything known of one", _show)
    rename = _add_one(actions, "rename", "what people call it; the name stays on this box", _rename)
    rename.add_argument("name", metavar="NAME", help='such as "bed 4"; never a patient\'s name')
    assign = _add_one(actions, "assign", "its readings are of one person from now on: a new stream", _assign)
    assign.add_argument(
        "--since",
        metavar="TIME",
        help="its stored records are this person's since then: ISO 8601, or `all` (default: none of them)",
    )
    unassign = _add_one(actions, "unassign", "take no more readings from it", _unassign)
    for parser in (assign, unassign):
        parser.add_argument("--user", type=int, metavar="N", help="a user slot of a shared wearable")
    unpair = _add_one(actions, "unpair", "forget its keys; it keeps its place and whose it is", _unpair)
    release = _add_one(actions, "release", "believe it again after a quarantine (admin)", _release)
    remove = _add_one(actions, "remove", "forget it altogether (admin)", _remove)
    for parser in (assign, unassign, unpair, release, remove):
        parser.add_argument("--yes", action="store_true", help="really")


def _add(actions: common.Subparsers, name: str, text: str, command: common.Command) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.set_defaults(command=command)
    return parser


def _add_one(actions: common.Subparsers, name: str, text: str, command: common.Command) -> argparse.ArgumentParser:
    parser = _add(actions, name, text, command)
    parser.add_argument("device", metavar="DEVICE", help="address, the end of one, or name; see: devices list")
    return parser


def client(arguments: argparse.Namespace) -> Client:
    """The daemon of this configuration."""
    return Client(load(arguments.config, GatewayConfig))


async def named(daemon: Client, wanted: str) -> api.Wearable:
    """As `find`, among all that the daemon knows."""
    wearables = await daemon.get("/v1/devices", WEARABLES)
    return find(wearables, wanted)


def find(wearables: Sequence[api.Wearable], wanted: str) -> api.Wearable:
    """The one that `wanted` names: an address, the end of one, or what people call it.

    Raises `ConfigError` that says what there is.
    """
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


def _list(arguments: argparse.Namespace) -> int:
    answer = asyncio.run(client(arguments).call("GET", "/v1/devices"))
    if arguments.json:
        print(answer.decode())
        return 0
    wearables = WEARABLES.validate_json(answer)
    if not wearables:
        print("There are no wearables yet. Next: iomt-gateway devices pair")
    else:
        print("\n".join(listing(wearables)))
    return 0


def listing(wearables: Sequence[api.Wearable]) -> Iterator[str]:
    """A table of wearables."""
    head = ("ADDRESS", "NAME", "KIND", "LINK", "HEARD", "BATTERY")
    rows = []
    for each in wearables:
        known = each.known
        battery = "-" if known.battery_pct is None else f"{known.battery_pct} %"
        link = (words.STATES.get(each.now.state, each.now.state), STYLES[judge.link(each).level])
        name = known.name or words.make_and_model(known) or "-"
        rows.append((known.address, name, words.kind(known.profile), link, words.ago(known.last_seen_ms), battery))
    return terminal.table(head, rows, flexible=1)


def _scan(arguments: argparse.Namespace) -> int:
    found = asyncio.run(scan(client(arguments), arguments.seconds))
    if arguments.json:
        print(FOUND.dump_json(found).decode())
    elif found:
        print("\n".join(nearby(found)))
    else:
        print("No health wearable was heard. Switch it on, or take a reading: many are heard only then.")
    return 0


async def scan(daemon: Client, seconds: float) -> tuple[api.Found, ...]:
    """Listen, with progress. Raises `ControlError`."""
    async with terminal.progress("Listening for wearables", seconds):
        return await daemon.post("/v1/scan", FOUND, {"seconds": seconds}, timeout_s=seconds + _ANSWER_S)


def nearby(found: Sequence[api.Found], *, numbered: bool = False) -> Iterator[str]:
    """A table of what a scan heard."""
    head = ("ADDRESS", "NAME", "KIND", "SIGNAL", "")
    rows = [
        (
            each.address,
            each.name or "-",
            ", ".join(map(words.kind, each.profiles)),
            words.signal(each.rssi_dbm),
            "known here" if each.known else "new",
        )
        for each in found
    ]
    if not numbered:
        return terminal.table(head, rows, flexible=1)
    return terminal.table(("NO", *head), [(f"{no:2}", *row) for no, row in enumerate(rows, start=1)], flexible=2)


def _show(arguments: argparse.Namespace) -> int:
    async def ask() -> tuple[api.Wearable, bytes]:
        daemon = client(arguments)
        wearable = await named(daemon, arguments.device)
        return wearable, await daemon.call("GET", f"/v1/devices/{wearable.known.address}")

    wearable, answer = asyncio.run(ask())
    if arguments.json:
        print(answer.decode())
    else:
        common.show(_facts(wearable))
        finding = judge.link(wearable)
        print(f"\n{styled(finding.level.word, STYLES[finding.level])}: {finding.says}")
        if finding.todo:
            print(terminal.wrapped(f"-> {finding.todo}", indent=0))
    return 0


def _facts(wearable: api.Wearable) -> dict[str, object]:
    known, now = wearable.known, wearable.now
    says = known.identity
    slots = {f"stream_of_slot_{slot}": stream.hex() for slot, stream in known.users}
    behind_s = now.clock_behind_s
    clock = "not seen" if behind_s is None else f"{abs(behind_s):.0f} s {'slow' if behind_s > 0 else 'fast'}"
    drift = "" if now.clock_drift_ppm is None else f", gains {now.clock_drift_ppm:.0f} ppm"
    return {
        "address": known.address,
        "name": terminal.plain(known.name) or "-",
        "kind": words.kind(known.profile),
        "make": terminal.plain(says.make) or "-",
        "model": terminal.plain(says.model) or "-",
        "serial_number": terminal.plain(says.serial) or "-",
        "firmware": terminal.plain(says.firmware) or "-",
        "link": words.STATES.get(now.state, now.state),
        "pairing": {"none": "not paired", "encrypted": "encrypted, nobody was authenticated"}.get(
            known.bond.name.lower(), known.bond.name.lower()
        ),
        "stream": known.stream.hex() if known.stream else "-",
        **slots,
        "stored_records": {"none": "it stores none", "open": "being fetched", "complete": "all are here"}[now.backfill],
        "last_heard": words.ago(known.last_seen_ms),
        "signal": words.signal(known.rssi_dbm),
        "battery": "-" if known.battery_pct is None else f"{known.battery_pct} %",
        "clock": clock + drift,
        "quarantine": known.quarantine or "no",
    }


def _rename(arguments: argparse.Namespace) -> int:
    return _do(
        arguments, "rename", lambda _: {"name": arguments.name}, f"is called {terminal.plain(arguments.name)} now"
    )


def _assign(arguments: argparse.Namespace) -> int:
    since_ms = since(arguments.since)

    def body(wearable: api.Wearable) -> dict[str, Any]:
        slots = dict(wearable.known.users)
        before = wearable.known.stream if arguments.user is None else slots.get(arguments.user)
        if before is not None and not arguments.yes:
            raise ConfigError(
                f"{wearable.known.address}: feeds the stream {before.hex()}; another would begin, and that one would"
                " get nothing more; say --yes"
            )
        return {"user": arguments.user, "since_ms": since_ms}

    async def work() -> tuple[api.Wearable, api.Stream]:
        daemon = client(arguments)
        wearable = await named(daemon, arguments.device)
        path = f"/v1/devices/{wearable.known.address}/assign"
        return wearable, await daemon.post(path, STREAM, body(wearable))

    wearable, made = asyncio.run(work())
    if arguments.json:
        print(json.dumps({"address": wearable.known.address, "stream": made.stream}))
    else:
        print(f"{wearable.known.address}: from now on its readings go to a new stream:\n  {made.stream}")
        print(whose(made.stream))
    return 0


def whose(stream: str) -> str:
    """What is left to say, on the receiver's side."""
    return f"Whose they are is said at the receiver:\n  iomt-receiver streams assign {stream} PATIENT"


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


def _unassign(arguments: argparse.Namespace) -> int:
    warning = "no more readings would be taken from it"
    return _do(arguments, "unassign", lambda _: {"user": arguments.user}, "nothing more is taken from it", warning)


def _unpair(arguments: argparse.Namespace) -> int:
    warning = "its keys would be forgotten, and nothing is taken from it until it is paired again"
    done = "its keys are forgotten; remove the gateway in the wearable's own menu too"
    return _do(arguments, "unpair", lambda _: None, done, warning)


def _release(arguments: argparse.Namespace) -> int:
    warning = "it would be believed again, as it is now"
    return _do(arguments, "release", lambda _: None, "is out of quarantine", warning)


def _remove(arguments: argparse.Namespace) -> int:
    warning = "it would be forgotten: keys, name, and whose it is"
    return _do(arguments, "", lambda _: None, "is forgotten", warning)


def _do(
    arguments: argparse.Namespace,
    act: str,
    body: Callable[[api.Wearable], object],
    done: str,
    warning: str = "",
) -> int:
    """Do `act` (empty: remove) to the wearable that the command line names; `warning`: only with --yes."""

    async def work() -> str:
        daemon = client(arguments)
        wearable = await named(daemon, arguments.device)
        address = wearable.known.address
        if warning and not arguments.yes:
            raise ConfigError(f"{address} ({words.called(wearable.known)}): {warning}; say --yes")
        path = f"/v1/devices/{address}"
        method, path = ("POST", f"{path}/{act}") if act else ("DELETE", path)
        await daemon.call(method, path, body(wearable), timeout_s=_UNPAIR_S)
        return address

    address = asyncio.run(work())
    print(json.dumps({"address": address, "done": True}) if arguments.json else f"{address}: {done}")
    return 0
