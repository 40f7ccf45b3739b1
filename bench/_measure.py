"""What every benchmark shares."""

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], unit: str) -> dict[str, float | str]:
    """Median, minimum and maximum of repeated measurements."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "unit": unit}
