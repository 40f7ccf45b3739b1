"""What the read API is asked and what it answers. Streams are pseudonyms; nothing here names a patient."""

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.health.metrics import METRICS

_Utc = Annotated[int, Field(ge=0, lt=1 << 53)]
METRIC_NAMES = {metric.name: code for code, metric in METRICS.items()}


class Query(BaseModel):
    """What stands behind the question mark."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Query):
    """Nothing may stand there."""


class StreamsWanted(Query):
    """A page of streams."""

    limit: int = Field(default=1000, ge=1, le=10_000)
    after: int = Field(default=0, ge=0, lt=1 << 53, description="`next` of the page before")


class ReadingsWanted(Query):
    """A page of a stream's readings, by time."""

    metric: Annotated[str, Field(json_schema_extra={"enum": sorted(METRIC_NAMES)})] | None = Field(
        default=None, description="its name; all, if none is named"
    )
    from_ms: _Utc = Field(default=0, description="UTC, milliseconds since 1970, itself included")
    to_ms: _Utc = Field(default=(1 << 53) - 1, description="UTC, milliseconds since 1970, itself left out")
    limit: int = Field(default=1000, ge=1, le=10_000)
    after: Annotated[str, Field(pattern=r"^\d{1,15}\.\d{1,15}\.\d{1,15}$")] | None = Field(
        default=None, description="`next` of the page before"
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.metric is not None and self.metric not in METRIC_NAMES:
            raise ValueError("there is no such metric; the OpenAPI document names them")
        return self


@dataclass(frozen=True, slots=True)
class Stream:
    """A pseudonym: whose readings one or more wearables of a gateway yield."""

    stream: str
    gateway: str
    forgotten: bool
    """Its readings were destroyed, and no more are taken."""


@dataclass(frozen=True, slots=True)
class Streams:
    """A page of streams; `next` is null on the last one."""

    streams: tuple[Stream, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A value as a wearable sent it."""

    device: str
    metric: str | None
    """Its name; null: not known here."""
    mdc: int
    """ISO/IEEE 11073-10101; from 67108864 on, this project's own."""
    value: str | None
    """Decimal, with the wearable's own precision; null: it sent none."""
    unit: str | None
    """UCUM."""
    time_ms: int
    received_ms: int
    quality: str
    """good, doubtful, void or not_patient."""
    backfilled: bool
    """It came out of the wearable's own store."""
    sequence: int | None
    session: str | None


@dataclass(frozen=True, slots=True)
class Readings:
    """A page of readings; `next` is null on the last one."""

    readings: tuple[Reading, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest good or doubtful value of each metric of each wearable, among a stream's newest 10,000 readings."""

    latest: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Records of a chain that are not here."""

    chain: str
    first: int
    last: int
    cause: str | None
    """What the gateway signed; null: nobody said, they may still come."""


@dataclass(frozen=True, slots=True)
class Completeness:
    """What is here of a stream, and what is missing below its highest numbers; what follows nobody can know."""

    stream: str
    gateway: str
    forgotten: bool
    records: int
    explained: int
    """Never durable, says the gateway: their causes are in `gaps`."""
    missing: int
    first_ms: int | None
    last_ms: int | None
    gaps: tuple[Gap, ...]
    """At most 1,000."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no answer."""

    error: str
    """A short fixed word."""
    message: str
