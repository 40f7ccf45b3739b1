"""Decoding and encoding of health characteristics, against bluetooth-sig in the same run.

bluetooth-sig is no requirement of this project: it decodes every SFLOAT wrongly. It is installed into an environment of
its own at the first run, and its process and this one measure by turns.
"""

from collections.abc import Callable
from typing import Any

from bench._measure import microseconds, spread
from bench._peer import Peer
from gateway import health
from gateway.health.quality import Assessor

_ROUNDS = 25
_CALLS = 2_000

VALUES = {
    "CGM, plain": (0x2AA7, "06 00 68 00 0a 00"),
    "CGM, every field": (0x2AA7, "0d e3 68 00 0a 00 01 02 04 05 f0 5f 00"),
    "PLX continuous, plain": (0x2A5F, "00 62 00 48 00"),
    "PLX continuous, every field": (0x2A5F, "1f 62 00 48 00 62 00 48 00 62 00 48 00 a0 01 00 00 00 0f f0"),
    "PLX spot-check, timestamp": (0x2A5E, "01 62 00 48 00 e8 07 02 0d 0c 0b 0a"),
    "glucose meter": (0x2A18, "0b 01 00 e8 07 02 0d 0c 0b 0a 05 00 68 b0 11 00 00"),
    "thermometer": (0x2A1C, "06 48 0e 00 fe e8 07 02 0d 0c 0b 0a 06"),
    "blood pressure": (0x2A35, "1e 78 00 50 00 5d 00 e8 07 02 0d 0c 0b 0a 48 00 01 00 00"),
    "heart rate": (0x2A37, "16 48 00 04 10 04"),
}
_WITH_CRC = (0x2AA7, "08 00 68 00 0a 00 00 00")


def run() -> dict[str, Any]:
    """Microseconds of processor time a value, so that a busy neighbour counts little."""
    jobs: dict[str, Callable[[], object]] = {}
    for name, (characteristic, octets) in (VALUES | {"CGM, plain, with CRC": _WITH_CRC}).items():
        value = bytes.fromhex(octets)
        if name.endswith("CRC"):
            value = _sealed(value)
        measurement = health.decode(characteristic, value)
        jobs[name] = _decoder(characteristic, value)
        jobs[f"{name}, encode"] = measurement.encode
    jobs["CGM, from value to record"] = _whole_way(*VALUES["CGM, plain"])
    times_us: dict[str, list[float]] = {name: [] for name in jobs}
    with Peer("bluetooth-sig", VALUES, calls=_CALLS) as peer:
        for _ in range(_ROUNDS):
            for name, job in jobs.items():
                times_us[name].append(microseconds(job, calls=_CALLS))
            for name, time_us in peer.measure().items():
                times_us.setdefault(f"bluetooth-sig, {name}", []).append(time_us)
    results = {name: spread(values, "µs/value") for name, values in times_us.items()}
    medians = {name: float(result["median"]) for name, result in results.items()}
    ratios = {
        f"bluetooth-sig / here, {name}": medians[f"bluetooth-sig, {name}"] / medians[name]
        for name in VALUES
        if f"bluetooth-sig, {name}" in medians
    }
    return {"results": results, "ratios": ratios, "refused_by_peer": peer.refused}


def _decoder(characteristic: int, value: bytes) -> Callable[[], object]:
    return lambda: health.decode(characteristic, value)


def _sealed(value: bytes) -> bytes:
    from gateway.health.crc import with_crc

    return with_crc(value[:-2])


def _whole_way(characteristic: int, octets: str) -> Callable[[], object]:
    assessor = Assessor()
    value = bytes.fromhex(octets)
    clock_ms = iter(range(0, 1 << 62, 60_000))

    def job() -> object:
        measurement = health.decode(characteristic, value)
        return [
            assessor.assess(each) for each in measurement.readings(device="C0:00:00:00:00:01", time_ms=next(clock_ms))
        ]

    return job
