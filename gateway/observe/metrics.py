"""What both sides count, by Prometheus' naming rules.

Labels are bounded words (a metric's name, an error's `cause`); no label ever carries a patient, a stream or a value.
Each process makes one of these and hands it down; nothing registers globally, so tests make as many as they like.
"""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)

from gateway import __version__
from gateway.errors import GatewayError, ReceiptError, SealError, UplinkError
from gateway.model import SECURITY_EVENTS

# Otherwise there is a gauge beside every counter, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it is not annotated

_BYTES = tuple(4**power for power in range(3, 12))
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class Described:
    """One metric, as `docs/metrics.md` shows it."""

    name: str
    """As Prometheus asks for it; a histogram's without `_bucket`, `_sum` and `_count`."""
    kind: Literal["counter", "gauge", "histogram", "info"]
    labels: tuple[str, ...]
    text: str


class Metrics:
    """A registry with build information, and the text that Prometheus reads."""

    _prefix: ClassVar[str]

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.catalogue: list[Described] = []
        self._info("build", "Versions of this process").info(
            {"version": __version__, "python": platform.python_version()}
        )

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def value(self, name: str) -> int:
        """The present value of an unlabelled sample, such as "uplink_parked_bundles"."""
        return int(self.registry.get_sample_value(f"{self._prefix}_{name}") or 0)

    def _info(self, name: str, text: str) -> Info:
        self.catalogue.append(Described(f"{self._prefix}_{name}_info", "info", ("version", "python"), text))
        return Info(f"{self._prefix}_{name}", text, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self.catalogue.append(Described(f"{self._prefix}_{name}_total", "counter", labels, text))
        return Counter(f"{self._prefix}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self.catalogue.append(Described(f"{self._prefix}_{name}", "gauge", labels, text))
        return Gauge(f"{self._prefix}_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
        self.catalogue.append(Described(f"{self._prefix}_{name}", "histogram", (), text))
        return Histogram(f"{self._prefix}_{name}", text, buckets=buckets, registry=self.registry)


def _causes(root: type[GatewayError]) -> Iterator[str]:
    """What `cause` can be for an error and everything below it."""
    yield root.cause
    for each in root.__subclasses__():
        yield from _causes(each)


def _from_zero(counter: Counter, *words: str) -> None:
    """Show a counter before it first counts: `increase()` does not see the step from nothing to 1."""
    for word in words:
        counter.labels(word)


class GatewayMetrics(Metrics):
    """The gateway's own."""

    _prefix = "iomt_gateway"

    def __init__(self) -> None:
        super().__init__()
        self.captured = self._counter(
            "captured_readings", "Readings taken from wearables", "profile", "metric", "quality"
        )
        self.backfilled = self._counter("backfilled_readings", "Readings fetched from a wearable's own store")
        self.device_errors = self._counter("device_errors", "What wearables and radio got wrong", "cause")
        self.device_events = self._counter("device_events", "What became of wearables, links and the adapter", "code")
        self.adapter_up = self._gauge("bluetooth_adapter_up", "1 while the Bluetooth adapter is in use")
        self.devices = self._gauge("devices", "Wearables by link state", "state")
        self.unlinked = self._gauge("unlinked_devices", "CGMs and oximeters with a patient and without a link")
        self.backfills = self._gauge("backfills", "Wearables by whether their stored records are all here", "state")
        self.sealed = self._counter("sealed_records", "Records sealed and signed")
        self.bundles = self._counter("sealed_bundles", "Bundles sealed and signed")
        self.bundle_bytes = self._histogram("bundle_bytes", "Size of one sealed bundle", _BYTES)
        self.seal_seconds = self._histogram("seal_seconds", "Time to seal and sign one bundle")
        self.fsync_seconds = self._histogram("outbox_fsync_seconds", "Time of one fdatasync of the outbox")
        self.outbox_failures = self._counter("outbox_failures", "Flushes that the disk refused", "cause")
        self.outbox_refusing = self._gauge("outbox_refusing", "1 while nothing can be made durable")
        self.security_events = self._counter("security_events", "What a person has to look at", "kind")
        self.lost_records = self._counter("lost_records", "Records that were never durable; signed gaps tell", "cause")
        self.holes = self._counter("outbox_hole_bundles", "Bundles that the receiver is told it will not get", "cause")
        self.outbox_bytes = self._gauge("outbox_bytes", "Bytes of bundles that no receipt covers yet")
        self.outbox_bundles = self._gauge("outbox_bundles", "Bundles that no receipt covers yet")
        self.outbox_missing = self._gauge("outbox_missing_bundles", "Bundles that the card has lost")
        self.outbox_oldest_seconds = self._gauge("outbox_oldest_age_seconds", "Age of the oldest such bundle")
        self.clock_known = self._gauge("clock_known", "1 while something vouches for the clock")
        self.clock_source = self._gauge("clock_source", "1 for what vouches for the clock now", "source")
        self.clock_error_seconds = self._gauge("clock_error_seconds", "How far the clock may be off while it is known")
        self.clock_offset_seconds = self._gauge(
            "clock_offset_seconds", "The system's clock less the gateway's own time: what was not believed"
        )
        self.clock_step_seconds = self._gauge("clock_step_seconds", "By how much the clock was set when it last jumped")
        self.outbox_left_seconds = self._gauge("outbox_left_seconds", "How long the outbox lasts at the present pace")
        self.card_written = self._counter("card_written_bytes", "What this process gave to the disk")
        self.card_bytes_per_record = self._gauge("card_bytes_per_record", "The same per record sealed")
        self.card_life_seconds = self._gauge("card_life_seconds", "How long a new card lasts at the present pace")
        self.online = self._gauge("uplink_online", "1 while connected to a broker")
        self.in_flight = self._gauge("uplink_in_flight", "Bundles published and not acknowledged by the broker")
        self.published = self._counter("uplink_published_bundles", "Bundles handed to the broker, again or not")
        self.acknowledged = self._counter("uplink_acknowledged_bundles", "Bundles that the broker acknowledged")
        self.receipted = self._counter("uplink_receipted_bundles", "Bundles that a receiver's receipt covered")
        self.parked = self._gauge("uplink_parked_bundles", "Bundles that the broker or the receiver refuses for good")
        self.reconnects = self._counter("uplink_reconnects", "Connections that ended or failed", "cause")
        self.certificate_expiry = self._gauge("tls_certificate_expiry_timestamp_seconds", "End of the TLS certificate")
        self.crl_expiry = self._gauge(
            "crl_expiry_timestamp_seconds", "End of the revocation list beside the CA; 0: there is none"
        )
        self.renewal_failures = self._counter("certificate_renewal_failures", "Attempts to renew it that failed")
        self.receipt_errors = self._counter("receipt_errors", "Receipts and key lists not believed", "cause")
        self.puback_seconds = self._histogram("uplink_puback_seconds", "From publish to the broker's acknowledgement")
        self.receipt_seconds = self._histogram("uplink_receipt_seconds", "From publish to the receiver's receipt")
        for counter, words in (
            (self.device_events, ("adapter-reset", "adapter-reset-unit", "link-silent")),
            (self.security_events, sorted(SECURITY_EVENTS)),
            (self.lost_records, ("disk", "refused")),
            (self.holes, ("capacity", "damaged", "disk")),
            (self.reconnects, _causes(UplinkError)),
            (self.receipt_errors, (*_causes(ReceiptError), "mismatch")),
        ):
            _from_zero(counter, *words)


class ReceiverMetrics(Metrics):
    """The receiver's own."""

    _prefix = "iomt_receiver"

    def __init__(self) -> None:
        super().__init__()
        self.messages = self._counter("messages", "Bundles that arrived, again or not")
        self.bundles_stored = self._counter("stored_bundles", "Bundles verified and committed")
        self.readings_stored = self._counter("stored_readings", "Readings committed")
        self.redelivered = self._counter("redelivered_bundles", "Bundles that were already committed")
        self.discarded = self._counter("discarded_records", "Records of forgotten streams that arrived and stayed shut")
        self.repeated = self._counter("repeated_readings", "Stored records of a wearable that arrived twice, kept once")
        self.parked = self._gauge("parked_bundles", "Bundles that wait for their epoch")
        self.quarantined = self._counter("quarantined_bundles", "Bundles that must not be believed", "cause")
        self.verify_failures = self._counter("verify_failures", "Bundles that did not verify", "cause")
        self.crl_expiry = self._gauge(
            "crl_expiry_timestamp_seconds",
            "End of the revocation list; mosquitto refuses everybody after it",
        )
        self.signers_refused = self._counter("refused_signers", "Signers that a gateway showed and must not count")
        self.forks = self._counter("forks", "Chains with two successors")
        self.receipts = self._counter("receipts", "Receipts signed and sent")
        self.commit_seconds = self._histogram("commit_seconds", "Time of one database commit")
        self.silent_chains = self._gauge("silent_chains", "Gateways whose heartbeat stopped")
        self.store_errors = self._counter("store_errors", "Commits that the database refused")
        self.reconnects = self._counter("reconnects", "Connections that ended or failed", "cause")
        self.online = self._gauge("online", "1 while connected to a broker")
        self.certificate_expiry = self._gauge("tls_certificate_expiry_timestamp_seconds", "End of the TLS certificate")
        _from_zero(self.verify_failures, *_causes(SealError), "parked-full")
        _from_zero(self.reconnects, *_causes(UplinkError))
