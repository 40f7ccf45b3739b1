"""What the demo shows: a live table in the terminal, and the verdict in plain words."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gateway.lab.verdict import Verdict

_LONG_S = 120


@dataclass(frozen=True, slots=True)
class Line:
    """One metric of one wearable, as the receiver verified it."""

    device: str
    metric: str
    value: str
    age_s: float
    buffered: int | None
    """Readings of this wearable on the gateway's disk that the receiver does not have yet; told once per wearable."""
    delivered: int | None
    """Readings of this wearable on the gateway's disk that the receiver has; told once per wearable."""
    verified: int
    """Readings of this metric in the receiver's store: signature, chain and seal checked, opened and decoded."""
    backfilled: int
    """Those of them that the wearable had stored and that were fetched from there."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One moment of the demo."""

    elapsed_s: float
    uplink: str
    gateway: str
    note: str
    lines: Sequence[Line]


def draw(scene: Scene) -> Panel:
    """The live table."""
    table = Table(expand=True, box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in ("device", "metric"):
        table.add_column(heading, no_wrap=True)
    for heading in ("last value", "age", "buffered", "delivered", "verified"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in scene.lines:
        stale = "yellow" if line.age_s > 5 else "green"  # noqa: PLR2004 - seconds, for the eye only
        table.add_row(
            line.device,
            line.metric,
            line.value,
            Text(_age(line.age_s), style=stale),
            Text(_count(line.buffered), style="yellow" if line.buffered else "dim"),
            _count(line.delivered),
            str(line.verified),
        )
    head = Text.assemble(
        (f"{scene.elapsed_s:5.1f} s   ", "bold"),
        "uplink ",
        (scene.uplink, "green" if scene.uplink == "up" else "bold red"),
        "   gateway ",
        (scene.gateway, "green" if scene.gateway == "running" else "bold red"),
        f"   {scene.note}",
    )
    late = Text(_late(scene.lines), style="dim")
    return Panel(Group(head, Text(), table, late), title="iomt-gateway demo: virtual wearables, real everything else")


def _late(lines: Sequence[Line]) -> str:
    """How many values came from each wearable's own store; a line without a name is of the one above."""
    counts: dict[str, int] = {}
    device = ""
    for line in lines:
        device = line.device or device
        counts[device] = counts.get(device, 0) + line.backfilled
    told = ", ".join(f"{device} {count}" for device, count in counts.items() if count)
    return f"Backfilled from what the wearables had stored: {told or 'nothing yet'}"


def summary(scene: Scene) -> str:
    """One line, where there is no terminal to draw on."""
    buffered = sum(line.buffered or 0 for line in scene.lines)
    verified = sum(line.verified for line in scene.lines)
    backfilled = sum(line.backfilled for line in scene.lines)
    return (
        f"{scene.elapsed_s:5.1f} s  uplink {scene.uplink}, gateway {scene.gateway}, {buffered} buffered, "
        f"{verified} verified, {backfilled} backfilled  {scene.note}"
    )


def _age(age_s: float) -> str:
    return f"{age_s:.1f} s" if age_s < _LONG_S else f"{age_s / 60:.0f} min"


def _count(number: int | None) -> str:
    return "" if number is None else str(number)


def tell(verdict: Verdict) -> Panel:
    """The verdict, for a person who was not there."""
    lines = [
        f"The wearables measured {verdict.emitted} values.",
        f"{verdict.stored} of them are in the cloud's store, each checked and stored once.",
        f"The network was cut {_times(verdict.outages)}; the gateway was killed {_times(verdict.kills)}.",
        f"{verdict.backfilled} values came late, from what the wearables had stored.",
    ]
    if verdict.explained:
        lines.append(f"{verdict.explained} values are missing for a recorded reason.")
    if verdict.in_air:
        lines.append(f"{verdict.in_air} values were measured while no radio link was up, or just before")
        lines.append("the kill, by a wearable that keeps nothing: no gateway could have them.")
    if verdict.lost_after_fsync:
        lines.append(f"LOST: {verdict.lost_after_fsync} values that were safe on the gateway.")
    if verdict.lost_from_stored_records:
        lines.append(f"LOST: {verdict.lost_from_stored_records} values that a wearable still holds.")
    if verdict.duplicates:
        lines.append(f"REPEATED: {verdict.duplicates} values are stored twice.")
    if verdict.unverified:
        lines.append(f"NOT BELIEVED: {verdict.unverified} values or messages could not be checked.")
    passed = verdict.passed
    lines.append("Nothing was lost." if passed else "This run FAILED.")
    return Panel("\n".join(lines), title="verdict", border_style="green" if passed else "red")


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
