"""What is green, amber or red about a gateway, and what to do: the judgement behind `status` and `watch`."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from gateway.ble.profiles import SPEAKS
from gateway.cli import words
from gateway.cli.terminal import Style
from gateway.control import api

_SOON_DAYS = 3
_LATE_S = 300.0
_ROOM_H = 24.0
_CARD_YEARS = 1.0
_UNHEARD_S = 3600.0
_BATTERY_PCT = 15
_DEVICES: Final = "iomt-gateway devices"


class Level(IntEnum):
    """How bad it is; also the exit status of `iomt-gateway status`."""

    GREEN = 0
    AMBER = 1
    """Works, and wants somebody's attention in the next days; or waits for a person."""
    RED = 2
    """Something does not work."""

    @property
    def word(self) -> str:
        """In lower case."""
        return self.name.lower()


STYLES: Final = {Level.GREEN: Style.GREEN, Level.AMBER: Style.AMBER, Level.RED: Style.RED}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    about: str
    says: str
    todo: str = ""
    """What a person does about it; empty if there is nothing."""
    address: str = ""
    """Of the wearable that it is about."""


def worst(findings: Sequence[Finding]) -> Level:
    """Of all of them."""
    return max((each.level for each in findings), default=Level.GREEN)


def judge(status: api.Status, wearables: Sequence[api.Wearable], identity: api.Identity | None) -> list[Finding]:
    """Everything there is to say, in the order of the way that a reading takes, the wearables last."""
    findings = [_uplink(status), _outbox(status), _clock(status), _adapter(status)]
    if identity:
        findings.append(_certificates(identity))
    if status.bundles_parked:
        says = f"{words.count(status.bundles_parked, 'bundle')} refused for good by the broker"
        todo = "read the log (journalctl -u iomt-gateway), mend it, then systemctl reload iomt-gateway"
        findings.append(Finding(Level.RED, "refused", says, todo))
    if not wearables:
        findings.append(Finding(Level.AMBER, "wearables", "there are none yet", f"{_DEVICES} pair"))
    return findings + [found for each in wearables for found in _wearable(each)]


def _uplink(status: api.Status) -> Finding:
    oldest = words.lasting(status.oldest_waiting_s)
    waiting = "nothing waits"
    if status.bundles_waiting:
        waiting = f"{words.count(status.bundles_waiting, 'bundle')} waiting, the oldest for {oldest}"
    if status.online:
        if status.oldest_waiting_s > _LATE_S:
            todo = "the broker is there, the receiver is not: look at iomt-receiver"
            return Finding(Level.AMBER, "uplink", f"online; {waiting}", todo)
        return Finding(Level.GREEN, "uplink", f"online; {waiting}")
    left_h = status.outbox_hours_left
    room = "" if left_h is None else f"; room for {words.lasting(left_h * 3600)} more"
    level = Level.RED if left_h is not None and left_h < _ROOM_H else Level.AMBER
    todo = f"everything is kept until it is back; why it is not: {status.uplink_trouble or 'not tried yet'}"
    return Finding(level, "uplink", f"offline; {waiting}{room}", todo)


def _outbox(status: api.Status) -> Finding:
    if status.trouble:
        todo = "readings are lost if that lasts: docs/operations.md, 'The disk refuses'"
        return Finding(Level.RED, "disk", f"nothing can be kept: {status.trouble}", todo)
    years = status.card_years
    if years is not None and years < _CARD_YEARS:
        return Finding(Level.AMBER, "disk", f"at this pace a card lasts {years:g} years", "docs/sizing.md")
    return Finding(Level.GREEN, "disk", f"{words.count(status.records_sealed, 'record')} kept since the start")


def _clock(status: api.Status) -> Finding:
    if status.clock == "unknown":
        todo = "connect it to a time server (timedatectl), or fit a clock with a battery: docs/time.md"
        return Finding(Level.AMBER, "clock", "the time is not known; readings are dated once it is", todo)
    kept = {"ntp": "kept by a time server", "battery": "kept by a battery", "system": "believed as it is"}
    return Finding(Level.GREEN, "clock", kept.get(status.clock, status.clock))


def _adapter(status: api.Status) -> Finding:
    match status.adapter:
        case "up":
            return Finding(Level.GREEN, "Bluetooth", "the adapter is in use")
        case "starting":
            return Finding(Level.AMBER, "Bluetooth", "the adapter is being opened", "ask again in some seconds")
        case "none":
            return Finding(Level.AMBER, "Bluetooth", "no adapter is configured", "set ble.adapter, then restart")
    return Finding(Level.RED, "Bluetooth", "the adapter cannot be used", status.adapter_trouble or "")


def _certificates(identity: api.Identity) -> Finding:
    ends = (identity.tls_certificate_until, identity.signing_certificate_until)
    until = min(map(dt.datetime.fromisoformat, ends))
    left = until - dt.datetime.now(dt.UTC)
    if left <= dt.timedelta(0):
        return Finding(Level.RED, "certificates", f"expired on {until:%Y-%m-%d}", "enrol it again: docs/identity.md")
    if left < dt.timedelta(days=_SOON_DAYS):
        todo = "it should have been renewed by now: iomt-gateway identity show"
        return Finding(Level.AMBER, "certificates", f"good only until {until:%Y-%m-%d}", todo)
    return Finding(Level.GREEN, "certificates", f"good until {until:%Y-%m-%d}")


def _wearable(wearable: api.Wearable) -> Iterator[Finding]:
    known, now = wearable.known, wearable.now
    name, address = words.called(known), known.address
    yield link(wearable)
    if known.battery_pct is not None and known.battery_pct < _BATTERY_PCT and now.state in ("link-up", "link-down"):
        says = f"its battery is at {known.battery_pct} %"
        yield Finding(Level.AMBER, name, says, f"charge it or change its battery ({address})", address)


def link(wearable: api.Wearable) -> Finding:
    """How a wearable's link stands."""
    known, now = wearable.known, wearable.now
    name, address = words.called(known), known.address
    if known.unmapped_users and not known.users and now.state in ("link-up", "link-down"):
        [*users] = map(str, known.unmapped_users)
        says = f"its readings of user {', '.join(users)} are not taken: nobody said whose they are"
        return Finding(Level.AMBER, name, says, f"{_DEVICES} assign {address} --user {users[0]}", address)
    match now.state:
        case "link-up":
            fetching = ", its stored records are being fetched" if now.backfill == "open" else ""
            return Finding(Level.GREEN, name, f"linked{fetching}", address=address)
        case "quarantined":
            says = f"quarantined: {known.quarantine}"
            todo = f"nothing is taken from it; look at it: {_DEVICES} show {address}"
            return Finding(Level.RED, name, says, todo, address)
        case "bond-lost":
            todo = f"{_DEVICES} unpair {address} --yes, then {_DEVICES} pair {address}"
            return Finding(Level.RED, name, "it has lost its pairing", todo, address)
        case "unpaired":
            return Finding(Level.AMBER, name, "not paired", f"{_DEVICES} pair {address}", address)
        case "unassigned":
            todo = f"nothing is taken from it until you say whose it is: {_DEVICES} assign {address}"
            return Finding(Level.AMBER, name, "assigned to nobody", todo, address)
    age = words.age_s(known.last_seen_ms)
    heard = "never heard" if age is None else f"last heard {words.lasting(age)} ago"
    if known.profile not in SPEAKS:
        return Finding(Level.GREEN, name, f"waits for the next measurement; {heard}", address=address)
    level = Level.RED if age is None or age > _UNHEARD_S else Level.AMBER
    todo = "is it worn, charged, and within a few metres of this box?"
    return Finding(level, name, f"not linked, {heard}", todo, address)
