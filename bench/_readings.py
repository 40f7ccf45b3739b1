"""What benchmarks hand in; imports no more than the gateway does."""

from gateway.health.metrics import GLUCOSE
from gateway.model import Extra, Reading


def reading(number: int, device: str = "F0:00:00:00:00:01", time_ms: int | None = None) -> Reading:
    """A plain value of a continuous glucose monitor with its place in the session, five minutes after the last."""
    return Reading(
        device=device,
        metric=GLUCOSE,
        mantissa=100 + number % 40,
        exponent=0,
        time_ms=1_790_000_000_000 + 300_000 * number if time_ms is None else time_ms,
        extras=((Extra.SEQUENCE, number), (Extra.SESSION, "2026-11-01T08:00:00")),
    )
