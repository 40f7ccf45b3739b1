"""What every benchmark shares."""

import statistics
import time
from collections.abc import Callable, Sequence


def microseconds(job: Callable[[], object], *, calls: int) -> float:
    """Processor time that one of `calls` calls took on average."""
    started_s = time.process_time()
    for _ in range(calls):
        job()
    return (time.process_time() - started_s) * 1e6 / calls


def spread(values: Sequence[float], unit: str) -> dict[str, float | str]:
    """Median, minimum and maximum of repeated measurements."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "unit": unit}
