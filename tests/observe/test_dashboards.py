"""The dashboards: as the code says, every query can be parsed, and asks for metrics and labels that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway.observe.boards import BOARDS
from gateway.observe.dashboards import Dashboard, document, text
from gateway.observe.metrics import Described, GatewayMetrics, ReceiverMetrics

FOLDER = Path(__file__).parents[2] / "config" / "grafana"
CATALOGUE = [each for side in (GatewayMetrics(), ReceiverMetrics()) for each in side.catalogue]
SAMPLES: dict[str, Described] = {
    name: each
    for each in CATALOGUE
    for name in (
        [f"{each.name}{end}" for end in ("_bucket", "_sum", "_count")] if each.kind == "histogram" else [each.name]
    )
}
FROM_PROMETHEUS = {"instance", "job", "severity", "alertstate"}
EVERY = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)


def targets(board: Dashboard) -> list[tuple[str, str]]:
    panels = json.loads((FOLDER / f"{board.uid}.json").read_text())["panels"]
    return [(each["expr"], each["legendFormat"]) for panel in panels for each in panel.get("targets", [])]


@EVERY
def test_the_file_is_what_the_code_says(board: Dashboard) -> None:
    assert (FOLDER / f"{board.uid}.json").read_text() == text(board), (
        "run: python -m gateway.observe.dashboards config/grafana"
    )


def test_no_dashboard_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {board.uid for board in BOARDS}


@EVERY
def test_every_query_asks_for_metrics_and_labels_that_exist(board: Dashboard) -> None:
    for query, legend in targets(board):
        names = re.findall(r"\biomt_\w+", query)
        assert set(names) <= SAMPLES.keys(), query
        known = {label for name in names for label in SAMPLES[name].labels} | FROM_PROMETHEUS
        if any(name.endswith("_bucket") for name in names):
            known.add("le")
        grouped = ",".join(re.findall(r"\b(?:by|without) \(([^)]*)\)", query)).replace(" ", "").split(",")
        selected = re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', query)
        told = re.findall(r"\{\{(\w+)\}\}", legend)
        assert {*filter(None, grouped), *selected, *told} <= known, (query, legend)


@EVERY
def test_a_legend_tells_only_what_the_query_keeps_and_no_two_of_a_panel_are_the_same(board: Dashboard) -> None:
    for panel in document(board)["panels"]:
        legends = [each["legendFormat"] for each in panel.get("targets", [])]
        assert len(set(legends)) == len(legends), panel["title"]
        for each in panel.get("targets", []):
            if kept := re.search(r"\bsum by \(([^)]*)\)", each["expr"]):
                told = set(re.findall(r"\{\{(\w+)\}\}", each["legendFormat"]))
                assert told <= set(kept[1].replace(" ", "").split(",")), each


@EVERY
def test_prometheus_can_parse_every_query(board: Dashboard, tmp_path: Path) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is missing: install prometheus")
    given = {"$__rate_interval": "1m", "$instance": "box.*"}
    rules = []
    for number, (query, _) in enumerate(targets(board)):
        for variable, value in given.items():
            query = query.replace(variable, value)  # noqa: PLW2901 - as Grafana fills it in
        assert "$" not in query
        rules.append({"record": f"query:{number}", "expr": query})
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": board.uid, "rules": rules}]}))
    said = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_every_metric_is_on_a_dashboard() -> None:
    asked = {name for board in BOARDS for query, _ in targets(board) for name in re.findall(r"\biomt_\w+", query)}
    assert {each.name for each in CATALOGUE} == {SAMPLES[name].name for name in asked}


@EVERY
def test_panels_do_not_cover_each_other(board: Dashboard) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in document(board)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
