"""Test vectors of the wire format, for readers written with other libraries (`docs/format.md`, "Vectors").

Keys, clock, random bytes and content are fixed and public; only HPKE (and ES256) draws randomness of its own. So a file
is written once. `check` reads it twice, with the reader proper and with `gateway.envelope.reference`, which shares no
code with it, and seals the same content again: all but what was drawn must come out the same.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from gateway.envelope import cbor, reference
from gateway.envelope.keys import EDDSA, ES256, HPKE_X25519, HPKE_XWING, RecipientKey, Signer, VerifyKey, signer_for
from gateway.envelope.open import OpenEpoch, parse
from gateway.envelope.receipt import decode_receipt, encode_receipt
from gateway.envelope.seal import ChainWriter, self_stream
from gateway.errors import GatewayError, SealError
from gateway.model import (
    Batch,
    Event,
    Extra,
    Gap,
    Link,
    Quality,
    Reason,
    Receipt,
    ReceiptRange,
    Record,
    Refusal,
    SealedBundle,
    StoreId,
    TimeSource,
)

SUITES = {"v1.json": (EDDSA, HPKE_XWING), "v1-es256.json": (ES256, HPKE_X25519)}
"""Algorithms of the signer and of the recipient in each file."""

GATEWAY = "gw-0007"
NOW_MS = 1_790_000_000_000
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def write(path: Path) -> None:
    """Write the file whose name is a key of `SUITES`. Raises `SealError` if it is none."""
    signer, receiver, recipient = _keys(path)
    bundles = [bundle.data for bundle in _bundles(signer, recipient)]
    document = {
        **_stated_keys(signer, receiver, recipient),
        "bundles": [bundle.hex() for bundle in bundles],
        "plaintexts": [[each.hex() for each in bundle] for bundle in _plaintexts(bundles, signer, recipient)],
        "receipts": [encode_receipt(receipt, receiver).hex() for receipt in _receipts(bundles)],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def check(path: Path) -> None:
    """Open every vector of a file and compare. Raises `SealError` that names the file and what is off."""
    try:
        keys = _keys(path)
        _check(json.loads(path.read_text(encoding="utf-8")), *keys)
    except OSError as error:
        raise SealError(f"{path}: cannot be read: {error.strerror}") from error
    except GatewayError as error:
        raise SealError(f"{path}: {error}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise SealError(f"{path}: is not a file of vectors: {error!r}") from error


def _check(document: dict[str, Any], signer: Signer, receiver: Signer, recipient: RecipientKey) -> None:
    expected = _stated_keys(signer, receiver, recipient)
    _same("keys", {name: document[name] for name in expected}, expected)
    bundles = [bytes.fromhex(each) for each in document["bundles"]]
    plaintexts = [[bytes.fromhex(each) for each in bundle] for bundle in document["plaintexts"]]
    again = [bundle.data for bundle in _bundles(signer, recipient)]
    for what, sealed in (("", bundles), (", sealed again", again)):
        second = reference.Reader(signer.public, signer.alg, recipient.private, recipient.alg)
        _same(f"plaintexts by the second reader{what}", [second.read(bundle) for bundle in sealed], plaintexts)
        _same(f"plaintexts{what}", _plaintexts(sealed, signer, recipient), plaintexts)
    _check_sealing(bundles, again, signer)
    _check_receipts([bytes.fromhex(each) for each in document["receipts"]], receiver, bundles)


def _keys(path: Path) -> tuple[Signer, Signer, RecipientKey]:
    """Signer, receiver and recipient of a file."""
    if path.name not in SUITES:
        raise SealError(f"vectors are called {' or '.join(SUITES)}")
    signer_alg, recipient_alg = SUITES[path.name]
    recipient = RecipientKey(recipient_alg, fixed("recipient"))
    return fixed_signer(signer_alg, "signer"), fixed_signer(signer_alg, "receiver"), recipient


def _stated_keys(signer: Signer, receiver: Signer, recipient: RecipientKey) -> dict[str, Any]:
    return {
        "signer_public": signer.public.hex(),
        "signer_alg": signer.alg,
        "recipient": {"alg": recipient.alg, "kid": recipient.kid.hex(), "private": recipient.private.hex()},
        "receiver_public": receiver.public.hex(),
    }


def _check_sealing(bundles: list[bytes], again: list[bytes], signer: Signer) -> None:
    """What HPKE did not draw is the same when it is sealed again."""
    for place, (bundle, fresh) in enumerate(zip(bundles, again, strict=True)):
        _same(f"sealing of bundle {place}", reference.fixed_items(bundle), reference.fixed_items(fresh))
        if signer.alg == EDDSA:
            signed = reference.signed(reference.decode(bundle)[0])
            message = signed.message(b"iomt-gateway/1 bundle")
            _same(f"signature of bundle {place}", signed.signature, signer.sign(message))


def _check_receipts(receipts: list[bytes], receiver: Signer, bundles: list[bytes]) -> None:
    key = VerifyKey(receiver.alg, receiver.public)
    expected = _receipts(bundles)
    _same("receipts", [decode_receipt(each, {key.kid: key}) for each in receipts], expected)
    for receipt in receipts:
        signed = reference.signed(reference.decode(receipt))
        reference.verify(key.public, key.alg, signed.signature, signed.message(b"iomt-gateway/1 receipt"))
    if receiver.alg == EDDSA:
        _same("receipts' bytes", receipts, [encode_receipt(each, receiver) for each in expected])


def _same(what: str, one: object, other: object) -> None:
    if one != other:
        raise SealError(f"{what}: not as expected")


def _plaintexts(bundles: Sequence[bytes], signer: Signer, recipient: RecipientKey) -> list[list[bytes]]:
    """Every part's plaintext by the reader proper, epoch parts first."""
    epochs: dict[tuple[bytes, int], OpenEpoch] = {}
    found = []
    for data in bundles:
        bundle = parse(data)
        bundle.verify(VerifyKey(signer.alg, signer.public))
        opened = [part.open(bundle, {recipient.kid: recipient}) for part in bundle.epochs]
        epochs |= {(epoch.chain, epoch.epoch): epoch for epoch in opened}
        plaintexts = [cbor.encode({1: 4, -1: epoch.secret}) for epoch in opened]
        for part in bundle.parts:
            epoch = epochs[bundle.chain, part.epoch]
            part.open(bundle, epoch)
            plaintexts.append(part.plaintext(bundle, epoch))
        found.append(plaintexts)
    return found


def fixed(name: str) -> bytes:
    """Fixed, public bytes in place of a secret: 32 of them."""
    return hashlib.sha256(b"iomt-gateway/1 vectors " + name.encode()).digest()


def fixed_random(name: str) -> Callable[[int], bytes]:
    """A source of fixed bytes, never the same twice."""
    numbers: Iterator[int] = count()
    return lambda size: fixed(f"{name} {next(numbers)}")[:size]


def fixed_signer(alg: int, name: str) -> Signer:
    """A fixed, public signing key of algorithm -8 or -7."""
    if alg == EDDSA:
        return signer_for(ed25519.Ed25519PrivateKey.from_private_bytes(fixed(name)))
    scalar = int.from_bytes(fixed(name), "big") % (_ORDER - 1) + 1
    return signer_for(ec.derive_private_key(scalar, ec.SECP256R1()))


def _bundles(signer: Signer, recipient: RecipientKey) -> list[SealedBundle]:
    """Two chains of two patients and the gateway itself."""
    first = _writer(signer, recipient, "chain 1", None)
    bundles = [
        _seal(first, 0, Batch(_PATIENT_A, (_reading(0),))),
        _seal(first, 1, Batch(_PATIENT_A, _EVERY_KIND), Batch(_PATIENT_B, (_SPO2, _PULSE)), _events(1, "heartbeat")),
        _seal(first, 2, Batch(_PATIENT_B, _GAP), Batch(_PATIENT_A, tuple(map(_reading, range(1, 17))))),
    ]
    first.end_segment()
    bundles.append(_seal(first, 3, Batch(_PATIENT_A, (_reading(17),)), _events(3, "shutdown")))
    second = _writer(signer, recipient, "chain 2", bundles[-1].link)
    bundles.append(_seal(second, 4, Batch(_PATIENT_B, (_SPO2,)), _events(4, "clock-anchor", "boot-1", 123_456, None)))
    bundles.append(_seal(second, 5, Batch(_PATIENT_B, (_PULSE,))))
    return bundles


def _writer(signer: Signer, recipient: RecipientKey, name: str, predecessor: Link | None) -> ChainWriter:
    return ChainWriter(
        gateway=GATEWAY,
        chain=fixed(name)[:16],
        signer=signer,
        recipients=[recipient.recipient],
        predecessor=predecessor,
        random=fixed_random(name),
    )


def _seal(writer: ChainWriter, tick: int, *batches: Batch) -> SealedBundle:
    return writer.seal(batches, now_ms=NOW_MS + 1000 * tick)[0]


def _events(tick: int, code: str, *details: int | str | bytes | None) -> Batch:
    return Batch(self_stream(GATEWAY), (Event(NOW_MS + 1000 * tick, code, details),))


_PATIENT_A, _PATIENT_B = fixed("patient a")[:16], fixed("patient b")[:16]
_CGM, _OXIMETER = "C0:00:00:00:00:01", "C0:00:00:00:00:02"
_METRIC = 1
"""The vectors say nothing about metrics: a code is a number here."""
_GAP = Gap(5, "consent-withdrawn", NOW_MS, NOW_MS + 900)


def _reading(minutes_5: int) -> Record:
    time_ms = NOW_MS + 300_000 * minutes_5
    return Record(_CGM, _METRIC, 100 + minutes_5, 0, time_ms, Quality.GOOD, ((Extra.SEQUENCE, 5 * minutes_5),))


_EVERY_KIND = (
    Record(_CGM, _METRIC, -3660, -2, NOW_MS - 7, Quality.DOUBTFUL, ((Extra.REASONS, int(Reason.TIME_DOUBTFUL)),)),
    Record(
        _CGM,
        _METRIC,
        None,
        0,
        NOW_MS - 600_000,
        Quality.VOID,
        (
            (Extra.TIME_SOURCE, int(TimeSource.SESSION)),
            (Extra.SESSION, "2026-09-21T12:00:00"),
            (Extra.BACKFILLED, 1),
            (Extra.SPECIAL, "NaN"),
            (Extra.REASONS, int(Reason.NO_VALUE)),
            (Extra.STATUS, 0x800001),
            (1001, b"unknown key"),
        ),
    ),
    Record(_OXIMETER, 4_294_967_295, 2**53 - 1, 127, NOW_MS, Quality.NOT_PATIENT, ((1000, "unknown key"),)),
)
_SPO2 = Record(_OXIMETER, 2, 975, -1, NOW_MS)
_PULSE = Record(_OXIMETER, 3, 61, 0, NOW_MS)


def _receipts(bundles: Sequence[bytes]) -> list[Receipt]:
    links = [Link(each.chain, each.no, each.hash) for each in map(parse, bundles)]
    store = StoreId(fixed("store")[:16], 1)
    first = ReceiptRange(links[0].chain, 0, 1, links[1].hash)
    both = (
        ReceiptRange(links[0].chain, 0, 3, links[3].hash),
        ReceiptRange(links[4].chain, 0, links[-1].no, links[-1].hash),
    )
    return [
        Receipt(GATEWAY, store, 1, (first,), (), NOW_MS + 2_000),
        Receipt(GATEWAY, store, 2, both, (Refusal(links[4].chain, 9, "malformed"),), NOW_MS + 6_000),
    ]
