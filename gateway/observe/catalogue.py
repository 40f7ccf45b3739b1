"""Writes `docs/metrics.md`: every metric of both sides, from the code that counts.

`python -m gateway.observe.catalogue > docs/metrics.md`; a test fails while page and code differ.
"""

import sys
from typing import Final

from gateway.observe.metrics import Described, GatewayMetrics, Metrics, ReceiverMetrics

LABELS: Final = {
    "cause": "who or what is to blame: an error's word, or why records are missing",
    "code": "an event's code ([format](format.md))",
    "kind": "a security event's code ([format](format.md))",
    "metric": "what was measured ([profiles](profiles.md)), else `unknown`",
    "profile": "the wearable's kind ([profiles](profiles.md)), else `unknown`",
    "python": "Python's version",
    "quality": "[quality](quality.md)",
    "source": "`ntp`, `battery`, `system`, or `unknown` ([time](time.md))",
    "state": "a link's or transfer's state ([bluetooth](bluetooth.md))",
    "version": "this software's version",
}
"""Every label, and from which bounded set its words are."""

_HEAD = """\
# Metrics

Made by `python -m gateway.observe.catalogue > docs/metrics.md`; do not edit.

Prometheus reads them from `/metrics` at `metrics.listen`: on loopback by plain HTTP, elsewhere over TLS 1.3 alone, with
a client certificate from `metrics.tls_ca`. No name or label tells a patient, a stream, a wearable's address or a value.
[Alerts](../config/prometheus/rules.yml) are made of them; [operations](operations.md) says what to do.

| label | its words |
|---|---|
"""


def page() -> str:
    """The whole page."""
    labels = "".join(f"| `{label}` | {text} |\n" for label, text in sorted(LABELS.items()))
    return _HEAD + labels + _section("Gateway", GatewayMetrics()) + _section("Receiver", ReceiverMetrics())


def _section(title: str, metrics: Metrics) -> str:
    rows = "".join(map(_row, sorted(metrics.catalogue, key=lambda each: each.name)))
    return f"\n## {title}\n\n| metric | kind | labels | what |\n|---|---|---|---|\n{rows}"


def _row(each: Described) -> str:
    labels = ", ".join(f"`{label}`" for label in each.labels)
    return f"| `{each.name}` | {each.kind} | {labels} | {each.text} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
