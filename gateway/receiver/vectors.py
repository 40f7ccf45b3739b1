"""Test vectors of what a receiver refuses, and of the key list (`docs/format.md`, "Vectors").

Keys and content are fixed and public, as in `gateway.envelope.vectors`; in refused bundles HPKE draws randomness.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cbor2 import CBORTag

from gateway.envelope import cbor, cose, layout, reference
from gateway.envelope.keylist import KeyList, decode_key_list, encode_key_list
from gateway.envelope.keys import EDDSA, ES256, HPKE_X25519, HPKE_XWING, Recipient, RecipientKey, Signer, VerifyKey
from gateway.envelope.ratchet import Ratchet
from gateway.envelope.vectors import GATEWAY, NOW_MS, fixed, fixed_random, fixed_signer
from gateway.errors import GatewayError, SealError, UnknownEpochError
from gateway.receiver.ingest import decide, verify
from gateway.receiver.plan import Message, State

_SIGNER, _STRANGER = fixed_signer(EDDSA, "signer"), fixed_signer(EDDSA, "stranger")
_RECIPIENT, _NOBODY = (RecipientKey(HPKE_X25519, fixed(name)) for name in ("recipient", "nobody"))
_CHAIN, _STREAM, _OTHER_STREAM = (fixed(name)[:16] for name in ("chain 1", "patient a", "patient b"))
_SECRET, _OTHER_SECRET = fixed("secret"), fixed("another secret")
_AAD = layout.part_aad(GATEWAY, _CHAIN, _SIGNER.kid)
_ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
_READING = (0, NOW_MS, ("C0:00:00:00:00:01",), ((0, 1, 0),), 0, 0, 100, 0, ())


@dataclass(frozen=True, slots=True)
class _Refused:
    """A bundle, what arrived before it, and why it is not stored."""

    rule: str
    cause: str
    bundle: bytes
    before: tuple[bytes, ...] = ()
    topic: str = GATEWAY
    """The gateway on whose topic it arrived."""


def write(path: Path) -> None:
    """Write the file whose name is a key of `FILES`."""
    document, _ = FILES[path.name]
    path.write_text(json.dumps(document(), indent=1) + "\n", encoding="utf-8")


def check(path: Path) -> None:
    """Judge every vector of a file. Raises `SealError` that names the file and what is off."""
    _, judge = FILES[path.name]
    try:
        judge(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SealError(f"{path}: cannot be read: {error.strerror}") from error
    except GatewayError as error:
        raise SealError(f"{path}: {error}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise SealError(f"{path}: is not a file of vectors: {error!r}") from error


def _same(what: str, one: object, other: object) -> None:
    if one != other:
        raise SealError(f"{what}: not as expected")


def _keys() -> dict[str, Any]:
    root = fixed_signer(EDDSA, "root")
    key_list = KeyList(
        serial=7,
        not_before_ms=NOW_MS,
        not_after_ms=NOW_MS + 365 * 86_400_000,
        recipients=(RecipientKey(HPKE_XWING, fixed("recipient")).recipient,),
        receivers=tuple(_verify_key(fixed_signer(alg, "receiver")) for alg in (EDDSA, ES256)),
    )
    return {
        "root_public": root.public.hex(),
        "root_alg": root.alg,
        "key_list": encode_key_list(key_list, root).hex(),
        "serial": key_list.serial,
        "not_before_ms": key_list.not_before_ms,
        "not_after_ms": key_list.not_after_ms,
        "recipients": [_stated(each) for each in key_list.recipients],
        "receivers": [_stated(each) for each in key_list.receivers],
    }


def _stated(key: Recipient | VerifyKey) -> dict[str, Any]:
    return {"alg": key.alg, "kid": key.kid.hex(), "public": key.public.hex()}


def _verify_key(signer: Signer) -> VerifyKey:
    return VerifyKey(signer.alg, signer.public)


def _check_keys(document: dict[str, Any]) -> None:
    data, root = bytes.fromhex(document["key_list"]), bytes.fromhex(document["root_public"])
    decode_key_list(data, VerifyKey(document["root_alg"], root), allow_classical=False)
    signed = reference.signed(reference.decode(data))
    reference.verify(root, document["root_alg"], signed.signature, signed.message(b"iomt-gateway/1 keys"))
    _same("the key list", document, _keys())


def _stated_keys() -> dict[str, Any]:
    return {
        "signer_public": _SIGNER.public.hex(),
        "signer_alg": _SIGNER.alg,
        "recipient": {
            "alg": _RECIPIENT.alg,
            "kid": _RECIPIENT.kid.hex(),
            "private": _RECIPIENT.private.hex(),
        },
    }


def _refused() -> dict[str, Any]:
    cases = [
        {
            "rule": case.rule,
            "topic": case.topic,
            "before": [each.hex() for each in case.before],
            "bundle": case.bundle.hex(),
            "cause": case.cause,
        }
        for case in _cases()
    ]
    return {**_stated_keys(), "refused": cases}


def _check_refused(document: dict[str, Any]) -> None:
    expected = _refused()
    _same("keys", {name: document[name] for name in _stated_keys()}, _stated_keys())
    told = [[(case["rule"], case["cause"]) for case in each["refused"]] for each in (document, expected)]
    _same("rules and causes", *told)
    for case in document["refused"]:
        before = [bytes.fromhex(each) for each in case["before"]]
        _same(case["rule"], _judged(before, bytes.fromhex(case["bundle"]), case["topic"]), case["cause"])


def _judged(before: Sequence[bytes], bundle: bytes, topic: str) -> str | None:
    """Why a receiver that has stored `before` does not store `bundle`; None if it does."""
    state = State()
    for data in before:
        _same("what arrived before", _cause(Message(GATEWAY, data), state), None)
    return _cause(Message(topic, bundle), state)


def _cause(message: Message, state: State) -> str | None:
    arrivals, refused = verify([message], {_SIGNER.kid: (GATEWAY, _verify_key(_SIGNER))})
    plan = decide(arrivals, state, recipient_keys={_RECIPIENT.kid: _RECIPIENT}, parked_limit=1, parked_per_gateway=1)
    causes = [each.cause for each in (*refused, *plan.quarantined)] + [UnknownEpochError.cause for _ in plan.parked]
    return causes[0] if causes else None


def _epoch(
    number: int = 0,
    *,
    stream: bytes = _STREAM,
    secret: bytes = _SECRET,
    committed: bytes = b"",
    plaintext: Mapping[int, Any] | None = None,
    to: RecipientKey = _RECIPIENT,
) -> CBORTag:
    header = [layout.EPOCH, number, stream, layout.commitment(committed or secret)]
    content = cbor.encode(plaintext or {1: 4, -1: secret})
    part, _ = cose.encrypt(header, (to.recipient,), content, _AAD, fixed_random("content key"))
    return part


def _part(content: object = _READING, *, step: int = 0, count: int = 1, key: bytes = b"") -> CBORTag:
    """A batch of epoch 0 that is numbered from `step` on."""
    salt = cbor.encode({1: cose.CHACHA20_POLY1305, cose.PART: [layout.EPOCH, 0, _STREAM, layout.commitment(_SECRET)]})
    ratchet = Ratchet(_SECRET, salt)
    keys = [ratchet.next() for _ in range(step + 1)]
    plaintext = content if isinstance(content, bytes) else cbor.encode(content)
    return cose.encrypt0([layout.BATCH, 0, step, step, count], key or keys[-1], plaintext, _AAD)


def _bundle(
    *parts: CBORTag,
    epochs: Sequence[CBORTag] = (),
    number: int = 0,
    prev: bytes = layout.NO_HASH,
    stripped: bool = False,
    signer: Signer = _SIGNER,
    change: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """A bundle of `parts`; `change` is made to its signature."""
    chain = [_CHAIN] if number else [_CHAIN, None, None]
    hashes = [layout.sha256(cbor.encode(each)) for each in epochs]
    payload = cbor.encode([layout.VERSION, GATEWAY, chain, number, prev, hashes, parts])
    signed = cose.sign1(signer, payload, layout.BUNDLE_AAD)
    return b"\x82" + signed[:-64] + change(signed[-64:]) + cbor.encode([] if stripped else epochs)


def _not_reduced(signature: bytes) -> bytes:
    return signature[:32] + (int.from_bytes(signature[32:], "little") + _ED25519_ORDER).to_bytes(32, "little")


def _cases() -> list[_Refused]:
    epoch = _epoch()
    first = _bundle(_part(), epochs=[epoch])
    link = layout.sha256(cbor.encode(cbor.decode(first)[0]))
    nested = b"\x81" * 12 + b"\x00"

    def second(*parts: CBORTag, epochs: Sequence[CBORTag] = ()) -> bytes:
        return _bundle(*parts, epochs=epochs, number=1, prev=link)

    def alone(content: object, count: int = 1) -> bytes:
        return _bundle(_part(content, count=count), epochs=[epoch])

    return [
        _Refused("bytes that follow", "malformed", first + b"\x00"),
        _Refused("a head that is not the shortest", "malformed", b"\x98\x02" + first[1:]),
        _Refused("no part", "malformed", _bundle(epochs=[epoch])),
        _Refused("steps that do not ascend", "malformed", _bundle(_part(step=1), _part(), epochs=[epoch])),
        _Refused("no predecessor, prev not zeros", "malformed", _bundle(_part(), epochs=[epoch], prev=link)),
        _Refused("another gateway's topic", "signer", first, topic="gw-0008"),
        _Refused("a signer not in the registry", "signer", _bundle(_part(), epochs=[epoch], signer=_STRANGER)),
        _Refused("a signature of zeros", "signature", _bundle(_part(), epochs=[epoch], change=lambda _: bytes(64))),
        _Refused("S not below L", "signature", _bundle(_part(), epochs=[epoch], change=_not_reduced)),
        _Refused("an epoch part stripped", "epoch-hash", _bundle(_part(), epochs=[epoch], stripped=True)),
        _Refused("a number that another bundle has", "fork", alone((*_READING, "other")), (first,)),
        _Refused("an epoch that has not arrived", "unknown-epoch", second(_part(step=1))),
        _Refused("sealed to nobody here", "decrypt", _bundle(_part(), epochs=[_epoch(to=_NOBODY)])),
        _Refused("a secret not committed to", "decrypt", _bundle(_part(), epochs=[_epoch(committed=_OTHER_SECRET)])),
        _Refused("no symmetric key", "malformed", _bundle(_part(), epochs=[_epoch(plaintext={1: 2, -1: _SECRET})])),
        _Refused(
            "an epoch declared twice, another secret",
            "malformed",
            second(_part(step=1), epochs=[_epoch(secret=_OTHER_SECRET)]),
            (first,),
        ),
        _Refused(
            "an epoch declared twice, another stream",
            "malformed",
            second(_part(step=1), epochs=[_epoch(stream=_OTHER_STREAM)]),
            (first,),
        ),
        _Refused("another key than the step's", "decrypt", _bundle(_part(key=_OTHER_SECRET), epochs=[epoch])),
        _Refused("an unknown layout", "malformed", alone((2, ()))),
        _Refused("more records announced than inside", "malformed", alone((1, ((NOW_MS, "start", ()),)), count=2)),
        _Refused("a column of another length", "malformed", alone((*_READING[:6], (100, 101), *_READING[7:]))),
        _Refused("an index beyond the series", "malformed", alone((*_READING[:4], 1, *_READING[5:]))),
        _Refused("a time below 0", "malformed", alone((*_READING[:5], -NOW_MS - 1, *_READING[6:]))),
        _Refused("an unknown quality", "malformed", alone((*_READING[:7], 4, *_READING[8:]))),
        _Refused(
            "a float in an ignored item", "malformed", alone(b"\x8a" + cbor.encode(_READING)[1:] + b"\xf9\x3c\x00")
        ),
        _Refused("an ignored item at level 13", "malformed", alone(b"\x8a" + cbor.encode(_READING)[1:] + nested)),
        _Refused("records numbered twice", "malformed", second(_part()), (first,)),
    ]


FILES: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], None]]] = {
    "keys.json": (_keys, _check_keys),
    "refused.json": (_refused, _check_refused),
}
"""By name: what is written, and who judges what was read."""
