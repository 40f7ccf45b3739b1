"""The envelope: bytes and time a reading, one bundle for all streams against one each, and what an epoch costs."""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ed25519

from bench._measure import spread
from gateway.envelope import cbor
from gateway.envelope.keys import HPKE_X25519, HPKE_XWING, RecipientKey, VerifyKey, signer_for
from gateway.envelope.open import OpenEpoch, parse
from gateway.envelope.records import decode_content, encode_records
from gateway.envelope.seal import ChainWriter
from gateway.model import Batch, Extra, Record

_ROUNDS = 25
_EPOCHS = 200
_STREAMS = [number.to_bytes(16, "big") for number in range(64)]
_SIZES = (1, 16, 128)
_NOW_MS = 1_790_000_000_000
_SIGNER = signer_for(ed25519.Ed25519PrivateKey.generate())
_VERIFY_KEY = VerifyKey(_SIGNER.alg, _SIGNER.public)
_XWING, _X25519 = RecipientKey(HPKE_XWING, os.urandom(32)), RecipientKey(HPKE_X25519, os.urandom(32))

T = TypeVar("T")
Results = dict[str, Any]
Ratios = dict[str, float]


def run() -> dict[str, Any]:
    """Measure in memory: nothing touches a disk or a network."""
    results: Results = {}
    ratios: Ratios = {}
    for size in _SIZES:
        _measure_part(size, results)
        if size < max(_SIZES):
            _measure_bundles(size, results, ratios)
    _measure_epochs(results, ratios)
    return {"results": results, "ratios": ratios}


def _measure_part(size: int, results: Results) -> None:
    """One part of `size` records: its bytes, and what the columns cost in time."""
    writer = _writer(_XWING)
    batch = Batch(_STREAMS[0], _readings(size))
    _seal(writer, [batch])
    part = cbor.decode(cbor.decode(_seal(writer, [batch]))[0].value[2])[6][0]
    plaintext = encode_records(_readings(size))
    records = list(_readings(size))
    label = f"{size} a part"
    results[f"part, {label}"] = spread([len(cbor.encode(part)) / size], "B/reading")
    results[f"encode columns, {label}"] = spread(_us(lambda: encode_records(records), size), "us/reading")
    results[f"decode columns, {label}"] = spread(_us(lambda: decode_content(plaintext, size), size), "us/reading")


def _measure_bundles(size: int, results: Results, ratios: Ratios) -> None:
    """64 streams in one bundle, and in 64 of one stream each; every epoch is open already."""
    together, apart = _writer(_XWING), _writer(_XWING)
    readings = size * len(_STREAMS)
    batches = [Batch(stream, _readings(size)) for stream in _STREAMS]
    reader = _Reader(_XWING)
    for writer in (together, apart):
        reader.read_all(_seal_all(writer, batches))
    peers: dict[str, Callable[[], list[bytes]]] = {
        "1 bundle of 64": partial(_seal_all, together, batches),
        "64 bundles of 1": lambda: [_seal(apart, [batch]) for batch in batches],
    }
    measured: dict[str, list[tuple[float, float, float]]] = {peer: [] for peer in peers}
    for _ in range(_ROUNDS):
        for peer, seal in peers.items():
            seal_s, bundles = _timed(seal)
            open_s, _ = _timed(partial(reader.read_all, bundles))
            measured[peer].append((sum(map(len, bundles)), 1e6 * seal_s, 1e6 * open_s))
    label = f"{size} a stream"
    for peer, rounds in measured.items():
        sizes, seal_us, open_us = ([each / readings for each in column] for column in zip(*rounds, strict=True))
        results[f"{peer}, {label}"] = spread(sizes, "B/reading")
        results[f"seal {peer}, {label}"] = spread(seal_us, "us/reading")
        results[f"verify and open {peer}, {label}"] = spread(open_us, "us/reading")
    one, many = peers
    for what in ("", "seal ", "verify and open "):
        of = {peer: float(results[f"{what}{peer}, {label}"]["median"]) for peer in peers}
        ratios[f"64 bundles / 1 bundle, {what.strip() or 'bytes'}, {label}"] = of[many] / of[one]


def _measure_epochs(results: Results, ratios: Ratios) -> None:
    """What opening an epoch adds to a bundle of one reading, and what it costs the receiver."""
    batch = Batch(_STREAMS[0], _readings(1))
    writers = {"X-Wing": (_XWING, _writer(_XWING)), "X25519": (_X25519, _writer(_X25519))}
    measured: dict[str, list[tuple[float, ...]]] = {name: [] for name in writers}
    for _ in range(_EPOCHS):
        for name, (key, writer) in writers.items():
            writer.end_segment()
            opening_s, opening = _timed(partial(_seal, writer, [batch]))
            plain_s, plain = _timed(partial(_seal, writer, [batch]))
            bundle = parse(opening)
            verify_s, _ = _timed(partial(bundle.verify, _VERIFY_KEY))
            open_s, _ = _timed(partial(bundle.epochs[0].open, bundle, {key.kid: key}))
            measured[name].append((len(opening) - len(plain), opening_s, plain_s, verify_s, open_s))
    columns = {name: list(zip(*rounds, strict=True)) for name, rounds in measured.items()}
    for name, (added, opening_times, _, _, open_times) in columns.items():
        results[f"{name} epoch, added"] = spread(added, "B")
        results[f"{name} epoch, seal a bundle of 1 that opens it"] = _ms(opening_times)
        results[f"{name} epoch, open"] = _ms(open_times)
    results["seal a bundle of 1 in an open epoch"] = _ms(columns["X-Wing"][2])
    results["verify a bundle"] = _ms(columns["X-Wing"][3])
    for what in ("added", "seal a bundle of 1 that opens it", "open"):
        hybrid, classical = (float(results[f"{name} epoch, {what}"]["median"]) for name in writers)
        ratios[f"X-Wing / X25519 epoch, {what}"] = hybrid / classical


def _ms(times_s: Sequence[float]) -> dict[str, float | str]:
    return spread([1000 * time_s for time_s in times_s], "ms")


class _Reader:
    """Verifies and opens, and remembers epochs."""

    def __init__(self, key: RecipientKey) -> None:
        self._keys = {key.kid: key}
        self._epochs: dict[tuple[bytes, int], OpenEpoch] = {}

    def read_all(self, bundles: Sequence[bytes]) -> None:
        for data in bundles:
            self._read(data)

    def _read(self, data: bytes) -> None:
        bundle = parse(data)
        bundle.verify(_VERIFY_KEY)
        for epoch in bundle.epochs:
            self._epochs[bundle.chain, epoch.epoch] = epoch.open(bundle, self._keys)
        for part in bundle.parts:
            part.open(bundle, self._epochs[bundle.chain, part.epoch])


def _writer(key: RecipientKey) -> ChainWriter:
    return ChainWriter(
        gateway="gw-0007",
        chain=os.urandom(16),
        signer=_SIGNER,
        recipients=(key.recipient,),
        predecessor=None,
        random=os.urandom,
    )


def _readings(count: int) -> tuple[Record, ...]:
    """Plain CGM values, five minutes apart, each with its sequence number."""
    return tuple(
        Record("C0:00:00:00:00:01", 1, 80 + 37 * n % 120, 0, _NOW_MS + 300_000 * n, extras=((Extra.SEQUENCE, 5 * n),))
        for n in range(count)
    )


def _seal(writer: ChainWriter, batches: list[Batch]) -> bytes:
    bundle, rest = writer.seal(batches, now_ms=_NOW_MS)
    assert not rest
    return bundle.data


def _seal_all(writer: ChainWriter, batches: list[Batch]) -> list[bytes]:
    bundles = []
    left = tuple(batches)
    while left:
        bundle, left = writer.seal(left, now_ms=_NOW_MS)
        bundles.append(bundle.data)
    return bundles


def _timed(act: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what came out."""
    started_s = time.perf_counter()
    outcome = act()
    return time.perf_counter() - started_s, outcome


def _us(act: Callable[[], object], count: int) -> list[float]:
    """Microseconds for each of the `count` things that `act` does at once; many calls a measurement."""
    calls = 2000 // count + 20
    measured = []
    for _ in range(_ROUNDS):
        started_s = time.perf_counter()
        for _ in range(calls):
            act()
        measured.append(1e6 * (time.perf_counter() - started_s) / calls / count)
    return measured
