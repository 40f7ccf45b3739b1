"""Bytes on the wire: sealed bytes a reading in a part, and everything counted for 20 wearables at 1/s.

Everything: signature, headers, epochs, and the topic and framing of MQTT, for an hour at the default tick. A reading of
ThingsBoard's gateway beside it: JSON, unsealed, unsigned, with its topic and framing. A plain reading has a value, a
time and the wearable's number for it; one with its session also says in text within what it is numbered.
"""

import json
import os
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519

from bench._measure import spread
from bench._readings import reading
from gateway.envelope import cbor
from gateway.envelope.keys import HPKE_XWING, RecipientKey, signer_for
from gateway.envelope.seal import ChainWriter
from gateway.health.quality import Assessor
from gateway.lab.site import GATEWAY
from gateway.model import Batch, Reading, SealedBundle

_WEARABLES = 20
_TICKS_PER_S = 4
_MINUTES = 60
_PUBLISH_BYTES = 2 + 2 + 2 + 1
"""Fixed header and its length, length of the topic, packet identifier, no properties."""
_TOPIC = f"v1/gw/{GATEWAY}/up/data"
_PEER_TOPIC = "v1/gateway/telemetry"


def run() -> dict[str, Any]:
    """Count; needs nothing."""
    results: dict[str, Any] = {}
    ratios = {}
    for name, session in (("plain", False), ("with session", True)):
        for count in (1, 16, 128):
            results[f"{name}, sealed part of {count}"] = spread([_part_bytes(count, session=session)], "B/reading")
        ours, theirs = _everything(session=session), _peer_bytes(session=session)
        results[f"{name}, everything, 20 wearables at 1/s"] = spread([ours], "B/reading")
        results[f"{name}, ThingsBoard"] = spread([theirs], "B/reading")
        ratios[f"{name}, ThingsBoard / here"] = theirs / ours
    return {"results": results, "ratios": ratios}


class _Writer:
    def __init__(self, *, session: bool) -> None:
        self._session = session
        key = RecipientKey(HPKE_XWING, os.urandom(32))
        self._assessor = Assessor()
        self._chain = ChainWriter(
            gateway=GATEWAY,
            chain=os.urandom(16),
            signer=signer_for(ed25519.Ed25519PrivateKey.generate()),
            recipients=[key.recipient],
            predecessor=None,
            random=os.urandom,
        )

    def seal(self, streams: dict[bytes, range], now_ms: int) -> SealedBundle:
        batches = [
            Batch(stream, tuple(self._assessor.assess(self._reading(number)) for number in numbers))
            for stream, numbers in streams.items()
        ]
        bundle, rest = self._chain.seal(batches, now_ms=now_ms)
        assert not rest
        return bundle

    def _reading(self, number: int) -> Reading:
        value = reading(number)
        return value if self._session else replace(value, extras=value.extras[:1])


def _part_bytes(count: int, *, session: bool) -> float:
    writer = _Writer(session=session)
    writer.seal({bytes(16): range(count)}, 0)
    signed, _ = cbor.decode(writer.seal({bytes(16): range(count, 2 * count)}, 0).data)
    payload = cbor.decode(signed.value[2])
    return len(cbor.encode(payload[-1][0])) / count


def _everything(*, session: bool) -> float:
    """An hour of 20 wearables, each heard in every fourth tick."""
    writer = _Writer(session=session)
    total = 0
    readings = 0
    for tick in range(60 * _MINUTES * _TICKS_PER_S):
        speaking = range(tick % _TICKS_PER_S, _WEARABLES, _TICKS_PER_S)
        numbers = range(tick // _TICKS_PER_S, tick // _TICKS_PER_S + 1)
        bundle = writer.seal({b"wearable %07d" % each: numbers for each in speaking}, tick * 1000 // _TICKS_PER_S)
        total += len(bundle.data) + len(_TOPIC) + _PUBLISH_BYTES
        readings += len(speaking)
    return total / readings


def _peer_bytes(*, session: bool) -> float:
    values = {"glucose": 104, "sequence": 1234} | ({"session": "2026-11-01T08:00:00"} if session else {})
    reading = {"ts": 1_790_000_000_000, "values": values}
    payload = json.dumps({"device-001": [reading]}, separators=(",", ":"))
    return len(payload) + len(_PEER_TOPIC) + _PUBLISH_BYTES
