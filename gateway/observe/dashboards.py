"""Writes the dashboards for Grafana: what is on them is here, in words; what Grafana wants around it is made.

`python -m gateway.observe.dashboards config/grafana`; a test fails while files and code differ.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_SCHEMA: Final = 39
"""Of dashboards, as Grafana 10 and later read it."""
_COLUMNS: Final = 24
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_SMALL, _LARGE = 4, 12
"""Widths: a number, a graph."""
_HEIGHT: Final = {_SMALL: 4, _LARGE: 8}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: its queries, each with its legend, and the unit by Grafana's name."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    words: tuple[str, str] | None = None
    """What 0 and 1 mean."""

    @property
    def width(self) -> int:
        """A number is small, all else is large."""
        return _SMALL if self.kind == "stat" else _LARGE


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Rows of panels, for the instances of one job."""

    uid: str
    title: str
    side: str
    """gateway or receiver: whose instances can be chosen."""
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def number(title: str, query: str, unit: str = "short", words: tuple[str, str] | None = None) -> Panel:
    """The present value, one for each instance."""
    return Panel(title, ((query, _legend()),), unit, "stat", words)


def graph(title: str, *queries: tuple[str, str], unit: str = "short") -> Panel:
    """Over time; each query with its legend."""
    return Panel(title, queries, unit)


def table(title: str, query: str, unit: str = "short") -> Panel:
    """The present values as rows."""
    return Panel(title, ((query, ""),), unit, "table")


def rate(metric: str, *by: str, called: str = "") -> tuple[str, str]:
    """How fast a counter grows, by some of its labels; `called` tells it from another in the same panel."""
    return f"sum by ({', '.join(('instance', *by))}) (rate({metric}[$__rate_interval]))", _legend(*by, called=called)


def grown(metric: str, *by: str, called: str = "") -> tuple[str, str]:
    """By how much a counter grew within an hour, likewise; nothing where it did not."""
    return f"sum by ({', '.join(('instance', *by))}) (increase({metric}[1h])) > 0", _legend(*by, called=called)


def _legend(*by: str, called: str = "") -> str:
    words = [f"{{{{{label}}}}}" for label in ("instance", *by)]
    return " ".join([*words, called] if called else words)


def quantiles(metric: str) -> tuple[tuple[str, str], ...]:
    """Median and 99th percentile of a histogram."""
    buckets = f"sum by (instance, le) (rate({metric}_bucket[$__rate_interval]))"
    return tuple(
        (f"histogram_quantile({share}, {buckets})", f"{{{{instance}}}} {name}")
        for share, name in ((0.5, "median"), (0.99, "p99"))
    )


def now(metric: str, *by: str) -> tuple[str, str]:
    """A gauge, by some of its labels."""
    return metric, _legend(*by)


def document(dashboard: Dashboard) -> dict[str, Any]:
    """What Grafana reads."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["iomt"],
        "schemaVersion": _SCHEMA,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": [_datasource(), _instances(dashboard.side)]},
        "panels": list(_panels(dashboard)),
    }


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    x = y = height = 0
    count = 0
    for title, panels in dashboard.rows:
        y, x, count = y + height, 0, count + 1
        yield {"id": count, "type": "row", "title": title, "gridPos": {"h": 1, "w": _COLUMNS, "x": 0, "y": y}}
        y, height = y + 1, 0
        for panel in panels:
            if x + panel.width > _COLUMNS:
                x, y, height = 0, y + height, 0
            count += 1
            place = {"h": _HEIGHT[panel.width], "w": panel.width, "x": x, "y": y}
            yield _panel(panel, count, place, dashboard.side)
            x, height = x + panel.width, max(height, place["h"])


def _panel(panel: Panel, number: int, place: dict[str, int], side: str) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.words:
        colours = ("red", "green")
        options = {str(value): {"text": word, "color": colours[value]} for value, word in enumerate(panel.words)}
        defaults["mappings"] = [{"type": "value", "options": options}]
    targets = [
        {
            "refId": chr(ord("A") + at),
            "datasource": _SOURCE,
            "expr": _chosen(query, side),
            "legendFormat": legend,
            "instant": panel.kind != "timeseries",
            "range": panel.kind == "timeseries",
            **({"format": "table"} if panel.kind == "table" else {}),
        }
        for at, (query, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": targets,
    }


def _chosen(query: str, side: str) -> str:
    """The query for the chosen instances of the dashboard's side."""
    selector = 'instance=~"$instance"'
    return re.sub(
        rf"\b(iomt_{side}_\w+)(\{{)?", lambda found: f"{found[1]}{{{selector}{', ' if found[2] else '}'}", query
    )


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _instances(side: str) -> dict[str, Any]:
    query = f"label_values(iomt_{side}_build_info, instance)"
    return {
        "name": "instance",
        "type": "query",
        "label": side.capitalize(),
        "datasource": _SOURCE,
        "query": query,
        "definition": query,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }


def text(dashboard: Dashboard) -> str:
    """The file."""
    return json.dumps(document(dashboard), indent=1) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Write every dashboard into a directory."""
    from gateway.observe.boards import BOARDS

    for board in BOARDS:
        Path(arguments[0], f"{board.uid}.json").write_text(text(board), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
