"""`iomt-gateway devices`: what there is, what is near, whose it is, and its end here."""

import argparse
import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.cli import common, judge, pair, terminal, words
from gateway.cli.terminal import styled
from gateway.cli.wearables import (
    FOUND,
    SCAN_S,
    SECONDS,
    SLOT,
    STREAM,
    WEARABLES,
    listing,
    name,
    named,
    nearby,
    scan,
    since,
    unnamed,
    whose,
)
from gateway.config import GatewayConfig, load
from gateway.control import api
from gateway.control.client import Client
from gateway.errors import ConfigError

_UNPAIR_S = 30.0


def add_parser(commands: common.Subparsers) -> None:
    """Add the commands."""
    group = commands.add_parser("devices", help="wearables: list, scan, pair, assign, unpair")
    actions = group.add_subparsers(metavar="ACTION", required=True)
    _add(actions, "list", "every wearable of this gateway", _list)
    scan = _add(actions, "scan", "which health wearables are near", _scan)
    scan.add_argument("--seconds", type=SECONDS, default=SCAN_S, metavar="N", help="how long to listen (%(default)g)")
    pair.add_parser(actions)
    _add_one(actions, "show", "everything known of one", _show)
    rename = _add_one(actions, "rename", "what people call it; the name stays on this box", _rename)
    rename.add_argument("name", type=name, metavar="NAME", help='such as "bed 4"; never a patient\'s name')
    assign = _add_one(actions, "assign", "its readings are of one person from now on: a new stream", _assign)
    assign.add_argument(
        "--since",
        metavar="TIME",
        help="its stored records are this person's since then: ISO 8601, or `all` (default: none of them)",
    )
    unassign = _add_one(actions, "unassign", "take no more readings from it", _unassign)
    for parser in (assign, unassign):
        parser.add_argument("--user", type=SLOT, metavar="N", help="only readings that name this user of it")
    unassign.add_argument("--all", action="store_true", help="of all its users")
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


def _scan(arguments: argparse.Namespace) -> int:
    found = asyncio.run(scan(client(arguments), arguments.seconds))
    if arguments.json:
        print(FOUND.dump_json(found).decode())
    elif found:
        print("\n".join(nearby(found)))
    else:
        print("No health wearable was heard. Switch it on, or take a reading: many are heard only then.")
    return 0


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
        print(f"\n{styled(finding.level.word, judge.STYLES[finding.level])}: {finding.says}")
        if finding.todo:
            print(terminal.wrapped(f"-> {finding.todo}", indent=0))
    return 0


def _facts(wearable: api.Wearable) -> dict[str, object]:
    known, now = wearable.known, wearable.now
    says = known.identity
    slots = {f"stream_of_user_{slot.user}": slot.stream.hex() for slot in known.users}
    if known.unmapped_users:
        slots["users_of_nobody"] = ", ".join(map(str, known.unmapped_users))
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
    called = terminal.plain(arguments.name)
    done = f"is called {called} now" if called else "has no name any more"
    return _do(arguments, "rename", lambda _: {"name": arguments.name}, done)


def _assign(arguments: argparse.Namespace) -> int:
    since_ms = since(arguments.since)

    def body(wearable: api.Wearable) -> dict[str, Any]:
        before = wearable.known.owner(arguments.user)
        if before is not None and not arguments.yes:
            raise ConfigError(
                f"{wearable.known.address}: feeds the stream {before[0].hex()}; another would begin, and that one would"
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
        of_user = "" if arguments.user is None else f" of user {arguments.user}"
        print(f"{wearable.known.address}: from now on its readings{of_user} go to a new stream:\n  {made.stream}")
        if arguments.user is None and (note := unnamed(wearable.known)):
            print(terminal.wrapped(note, indent=0))
        print(whose(made.stream))
    return 0


def _unassign(arguments: argparse.Namespace) -> int:
    def body(wearable: api.Wearable) -> dict[str, Any]:
        if wearable.known.users and arguments.user is None and not arguments.all:
            users = ", ".join(str(slot.user) for slot in wearable.known.users)
            raise ConfigError(f"{wearable.known.address}: is assigned by user ({users}): say --user N, or --all")
        return {"user": arguments.user, "everyone": arguments.all}

    of_user = "" if arguments.user is None else f" of user {arguments.user}"
    warning = f"no more readings{of_user} would be taken from it"
    return _do(arguments, "unassign", body, f"nothing more{of_user} is taken from it", warning)


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
