"""Decoding and encoding of health characteristics, against bluetooth-sig where that is installed.

bluetooth-sig is no requirement of this project: it decodes every SFLOAT wrongly. Install it beside for the comparison.
"""

import importlib
import time
from collections.abc import Callable
from typing import Any

from bench._measure import spread
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
    """Microseconds of processor time a value, so that a busy neighbour counts little; peers by turns."""
    jobs: dict[str, Callable[[], object]] = {}
    for name, (characteristic, octets) in (VALUES | {"CGM, plain, with CRC": _WITH_CRC}).items():
        value = bytes.fromhex(octets)
        if name.endswith("CRC"):
            value = _sealed(value)
        measurement = health.decode(characteristic, value)
        jobs[name] = _decoder(characteristic, value)
        jobs[f"{name}, encode"] = measurement.encode
    jobs["CGM, from value to record"] = _whole_way(*VALUES["CGM, plain"])
    jobs |= _peer()
    times_us: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(_ROUNDS):
        for name, job in jobs.items():
            started_s = time.process_time()
            for _ in range(_CALLS):
                job()
            times_us[name].append((time.process_time() - started_s) * 1e6 / _CALLS)
    results = {name: spread(values, "µs/value") for name, values in times_us.items()}
    medians = {name: float(result["median"]) for name, result in results.items()}
    ratios = {
        f"bluetooth-sig / here, {name}": medians[f"bluetooth-sig, {name}"] / medians[name]
        for name in VALUES
        if f"bluetooth-sig, {name}" in medians
    }
    return {"results": results, "ratios": ratios}


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


def _peer() -> dict[str, Callable[[], object]]:
    """The same values with bluetooth-sig, as far as it takes them at all."""
    try:
        translator = importlib.import_module("bluetooth_sig").BluetoothSIGTranslator()
    except ImportError:
        return {}
    jobs: dict[str, Callable[[], object]] = {}
    for name, (characteristic, octets) in VALUES.items():
        job = _peer_job(translator, f"{characteristic:04X}", bytearray.fromhex(octets))
        try:
            job()
        except Exception as error:  # noqa: BLE001 - a peer may fail however it likes; it is then left out
            print(f"bluetooth-sig refuses {name}: {error}")
        else:
            jobs[f"bluetooth-sig, {name}"] = job
    return jobs


def _peer_job(translator: Any, uuid: str, value: bytearray) -> Callable[[], object]:  # noqa: ANN401 - not installed
    return lambda: translator.parse_characteristic(uuid, value)
