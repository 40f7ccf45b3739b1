"""The metrics: named as Prometheus wants it, written down, bounded, and about nobody."""

import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.errors import UplinkError
from gateway.model import SECURITY_EVENTS
from gateway.observe.catalogue import LABELS, page
from gateway.observe.metrics import GatewayMetrics, Metrics, ReceiverMetrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
BOTH = pytest.mark.parametrize("make", [GatewayMetrics, ReceiverMetrics])


def test_the_page_is_what_the_code_counts() -> None:
    assert PAGE.read_text() == page(), "run: python -m gateway.observe.catalogue > docs/metrics.md"


@BOTH
def test_the_catalogue_has_every_metric_of_the_registry(make: type[Metrics]) -> None:
    metrics = make()
    families = {family.name for family in metrics.registry.collect()}
    assert {each.name.removesuffix("_total").removesuffix("_info") for each in metrics.catalogue} == families


@BOTH
def test_every_label_is_from_a_bounded_set(make: type[Metrics]) -> None:
    assert {label for each in make().catalogue for label in each.labels} <= set(LABELS)


@BOTH
def test_prometheus_finds_nothing_wrong_with_the_names(make: type[Metrics]) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is missing: install prometheus")
    said = subprocess.run([promtool, "check", "metrics"], input=make().render(), capture_output=True, check=False)
    assert (said.returncode, said.stdout + said.stderr) == (0, b"")


def test_what_alerts_count_is_there_before_it_first_happens() -> None:
    gateway, receiver = GatewayMetrics().registry, ReceiverMetrics().registry
    for kind in SECURITY_EVENTS:
        assert gateway.get_sample_value("iomt_gateway_security_events_total", {"kind": kind}) == 0
    assert gateway.get_sample_value("iomt_gateway_device_events_total", {"code": "link-silent"}) == 0
    for cause in ("disk", "refused"):
        assert gateway.get_sample_value("iomt_gateway_lost_records_total", {"cause": cause}) == 0
    for cause in ("capacity", "damaged", "disk"):
        assert gateway.get_sample_value("iomt_gateway_outbox_hole_bundles_total", {"cause": cause}) == 0
    assert gateway.get_sample_value("iomt_gateway_uplink_reconnects_total", {"cause": UplinkError.cause}) == 0
    for cause in ("receipt", "another-store", "mismatch"):
        assert gateway.get_sample_value("iomt_gateway_receipt_errors_total", {"cause": cause}) == 0
    for cause in ("signature", "signer", "malformed", "parked-full"):
        assert receiver.get_sample_value("iomt_receiver_verify_failures_total", {"cause": cause}) == 0
