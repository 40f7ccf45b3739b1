"""Fuzz every health decoder with atheris: a value or a declared error; a value is told, read and encoded again.

Run as `python tests/fuzz/fuzz_health.py -runs=1000000`; needs `atheris`, which is no requirement of the tests.
The first two octets of an input choose the characteristic and whether a CRC is promised.
"""

import sys

import atheris

with atheris.instrument_imports():
    from gateway import health
    from gateway.errors import DecodeError
    from gateway.health.line import decode_line
    from gateway.health.quality import Assessor

_CHARACTERISTICS = sorted(health.CHARACTERISTICS)
_E2E_CRC = (None, True, False)


def one_input(data: bytes) -> None:
    """Decode `data`, and do with the value what the gateway does."""
    if len(data) < 2:
        return
    characteristic = _CHARACTERISTICS[data[0] % len(_CHARACTERISTICS)]
    e2e_crc = _E2E_CRC[data[1] % len(_E2E_CRC)]
    value = data[2:]
    decode_line(f"{characteristic:04X} {value.hex() or '-'}", e2e_crc=e2e_crc)
    try:
        measurement = health.decode(characteristic, value, e2e_crc=e2e_crc)
    except DecodeError:
        return
    assessor = Assessor()
    for reading in health.readings(measurement, device="C0:00:00:00:00:01", time_ms=0):
        assessor.assess(reading)
    octets = health.encode(measurement, e2e_crc=bool(e2e_crc))
    if health.decode(characteristic, octets, e2e_crc=bool(e2e_crc)) != measurement:
        raise AssertionError(f"{characteristic:04X}: {value.hex()} is not what it encodes to, {octets.hex()}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
