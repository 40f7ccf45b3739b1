"""The alert rules: they fire when they should, each has its runbook, and they ask for metrics that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway.observe.metrics import GatewayMetrics, ReceiverMetrics

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "config" / "prometheus"
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]]
RUNBOOK = (ROOT / "docs" / "operations.md").read_text()
NAMES = [rule["alert"] for rule in RULES]


def promtool(*arguments: str) -> None:
    if (program := shutil.which("promtool")) is None:
        pytest.skip("promtool is missing: install prometheus")
    said = subprocess.run([program, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_configuration_is_right() -> None:
    promtool("check", "config", "prometheus.yml")


def test_each_alert_fires_when_it_should_and_no_other_does() -> None:
    promtool("test", "rules", "rules_test.yml")


def test_no_alert_is_untested() -> None:
    tested = re.findall(r'alertname="(\w+)"', (PROMETHEUS / "rules_test.yml").read_text())
    assert set(tested) == set(NAMES)


def test_each_alert_leads_to_its_section_of_the_runbook_and_no_section_is_left_over() -> None:
    links = [rule["annotations"]["runbook_url"] for rule in RULES]
    assert links == [f"{{{{ $externalLabels.runbooks }}}}#{name.lower()}" for name in NAMES]
    shipped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["global"]["external_labels"]["runbooks"]
    assert (ROOT / shipped).read_text() == RUNBOOK
    sections = re.findall(r"^## (\w+)\n\n(.*?)(?=\n## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in sections] == NAMES
    for _, text in sections:
        assert re.findall(r"^\*\*(.*?)\.\*\*", text, re.MULTILINE) == ["For patients", "Confirm", "Do"]


@pytest.mark.parametrize("text", [RUNBOOK, *(rule["expr"] for rule in RULES)], ids=["operations.md", *NAMES])
def test_every_metric_that_is_named_exists(text: str) -> None:
    known = {each.name for side in (GatewayMetrics(), ReceiverMetrics()) for each in side.catalogue}
    assert set(re.findall(r"\biomt_(?:gateway|receiver)_\w+", text)) <= known
