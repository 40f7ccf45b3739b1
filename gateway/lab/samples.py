"""What a process of ours counts, read from its metrics page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gateway.observe import http


@dataclass(frozen=True, slots=True)
class Samples:
    """All samples at one moment."""

    samples: tuple[Sample, ...]

    @classmethod
    async def fetch(cls, socket: str | Path) -> Self:
        """Read the page at HOST:PORT or on a Unix socket. Raises `OSError` if nobody answers."""
        text = (await http.fetch("/metrics", socket=socket)).decode()
        return cls(tuple(sample for family in text_string_to_metric_families(text) for sample in family.samples))

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels."""
        return sum(
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    def quantile_bound(self, name: str, share: float) -> float:
        """The upper bound of the histogram bucket below which this share of the observations lies."""
        buckets = [(float(each.labels["le"]), each.value) for each in self.samples if each.name == f"{name}_bucket"]
        total = buckets[-1][1]
        return next(bound for bound, count in buckets if count >= share * total)
