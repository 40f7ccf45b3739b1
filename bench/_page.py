"""The tables of docs/performance.md, from what each benchmark left."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PAGE = (
    "pipeline",
    "drain",
    "latency",
    "cpu",
    "footprint",
    "wear",
    "wire",
    "loss",
    "seal",
    "outbox",
    "links",
    "decode",
    "handshake",
)
"""In the page's order."""


def page(directory: Path) -> Iterator[str]:
    """Markdown: for each benchmark a table of what it measured, the pipeline's as the page has it."""
    for name in PAGE:
        path = directory / f"{name}.json"
        if not path.exists():
            yield f"## {name}\n\nnot measured\n"
            continue
        result = json.loads(path.read_text())
        yield f"## {name}\n"
        yield from _pipeline(result) if name == "pipeline" else _plain(result)
        yield ""


def _plain(result: Mapping[str, Any]) -> Iterator[str]:
    yield "| | median | least to most | |"
    yield "|---|---|---|---|"
    for name, each in result["results"].items():
        yield f"| {name} | {each['median']:,.4g} | {each['min']:,.4g} to {each['max']:,.4g} | {each['unit']} |"
    for name, ratio in result["ratios"].items():
        yield f"| {name} | {ratio:.3g} | | times |"


def _pipeline(result: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "| readings a stream and tick | here, readings/s | ThingsBoard, readings/s | ratio | gateway, µs a reading"
        " | receiver, µs a reading |"
    )
    yield "|---|---|---|---|---|---|"
    results = result["results"]
    for count in (1, 16, 128):
        case = f"64 streams, {count} a stream and tick"
        ratio = result["ratios"][f"here / ThingsBoard, {count} a stream and tick"]
        gateway, receiver = (results[f"{case}, {side}'s processor"]["median"] for side in ("gateway", "receiver"))
        rates = " | ".join(_rate(results[each]) for each in (case, f"ThingsBoard, {case}"))
        yield f"| {count} | {rates} | {ratio:.1f} | {gateway:.1f} | {receiver:.1f} |"


def _rate(each: Mapping[str, Any]) -> str:
    median, least, most = (round(each[key], -1) for key in ("median", "min", "max"))
    return f"{median:,.0f} ({least:,.0f} to {most:,.0f})"
