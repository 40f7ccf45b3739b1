"""Whatever was not written exactly so by this signer for this place is refused, and with the right name."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from cbor2 import CBORTag
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.envelope import cbor, cose, layout
from gateway.envelope.keys import Signer
from gateway.envelope.open import OpenEpoch, parse, parse_signed
from gateway.envelope.ratchet import Ratchet
from gateway.errors import DecryptError, EpochHashError, MalformedError, SealError, SignatureError
from gateway.model import Batch, Gap
from tests.envelope.conftest import (
    CHAIN,
    ED25519,
    GATEWAY,
    NOW_MS,
    OTHER,
    P256,
    X25519,
    XWING,
    A,
    B,
    Reader,
    contents,
    forge,
    header_of,
    mutable,
    one_bundle,
    records,
    relabel,
    seal,
    verify_key,
    writer,
)
from tests.envelope.forging import BUNDLE, Change, put, put_header, put_in, repacked, resigned_with

BUNDLES = {"ed25519": (ED25519, BUNDLE), "es256": (P256, one_bundle(P256))}


def test_the_untouched_bundle_reads() -> None:
    for signer, data in BUNDLES.values():
        bundle, parts = Reader(signer).read(data)
        assert (bundle.gateway, bundle.signer_kid, bundle.chain, bundle.no) == (GATEWAY, signer.kid, CHAIN, 0)
        assert [part.stream for part in parts] == [A, B, A]
        assert contents(parts[0]) == records(2)
        assert contents(parts[2]) == Gap(3, "refused", NOW_MS, NOW_MS + 1)


def test_unchanged_forgeries_read_so_the_refusals_below_are_due_to_the_change() -> None:
    Reader().read(forge(BUNDLE, lambda _: None))
    Reader().read(repacked(lambda _signed, _epochs: None))


@pytest.mark.parametrize(("signer", "data"), BUNDLES.values(), ids=BUNDLES)
def test_a_change_of_any_byte_is_refused(signer: Signer, data: bytes) -> None:
    for place in range(len(data)):
        for bit in (1, 0x20, 0x80):
            tampered = bytearray(data)
            tampered[place] ^= bit
            with pytest.raises((MalformedError, SignatureError, EpochHashError)):
                parse(bytes(tampered)).verify(verify_key(signer))


def test_any_shortening_or_lengthening_is_refused() -> None:
    for size in range(len(BUNDLE)):
        with pytest.raises(MalformedError):
            parse(BUNDLE[:size])
    for more in (b"\0", b"\xf6", BUNDLE):
        with pytest.raises(MalformedError):
            parse(BUNDLE + more)


@settings(max_examples=200)
@given(st.binary(max_size=300) | st.binary(max_size=80).map(lambda junk: BUNDLE[: len(BUNDLE) - len(junk)] + junk))
def test_any_bytes_are_a_bundle_or_refused(data: bytes) -> None:
    for read in (parse, parse_signed):
        with suppress(MalformedError):
            read(data)


def test_another_signer_is_not_believed() -> None:
    with pytest.raises(SignatureError):
        parse(forge(BUNDLE, lambda _: None, OTHER)).verify(verify_key(ED25519))
    with pytest.raises(SignatureError):
        parse(BUNDLE).verify(verify_key(OTHER))


def test_what_another_signer_signs_again_does_not_open() -> None:
    stolen = forge(BUNDLE, lambda _: None, OTHER)
    with pytest.raises(DecryptError):
        Reader(OTHER).read(stolen)


def test_a_signature_names_its_algorithm_truly() -> None:
    payload = cbor.decode(BUNDLE)[0].value[2]
    protected = cbor.encode({1: P256.alg, 4: ED25519.kid})
    message = cbor.encode(["Signature1", protected, layout.BUNDLE_AAD, payload])
    lying = cbor.encode([CBORTag(18, [protected, {}, payload, ED25519.sign(message)]), cbor.decode(BUNDLE)[1]])
    with pytest.raises(SignatureError):
        parse(lying).verify(verify_key(ED25519))


@pytest.mark.parametrize("aad", [b"", layout.RECEIPT_AAD, layout.KEY_LIST_AAD])
def test_a_signature_made_for_another_use_is_refused(aad: bytes) -> None:
    payload = cbor.decode(BUNDLE)[0].value[2]
    data = b"\x82" + cose.sign1(ED25519, payload, aad) + cbor.encode(cbor.decode(BUNDLE)[1])
    with pytest.raises(SignatureError):
        parse(data).verify(verify_key(ED25519))


@pytest.mark.parametrize(
    "change",
    [
        put(1, "gw-2"),
        put_in(2, 0, b"\xc2" * 16),
        put_header(0, 0, 2),
        put_header(2, 1, 1),
        put_header(2, 2, 2),
        put_header(0, 3, 1),
        put_header(0, 4, 1),
        put_header(2, 0, 1),
        put_header(2, 3, 0),
        put_header(2, 4, 4),
        lambda payload: payload[6].append(payload[6][0]) or put_header(3, 2, 2)(payload),
    ],
    ids=["gateway", "chain", "kind", "epoch", "step", "first", "count", "gap-kind", "gap-first", "gap-count", "copied"],
)
def test_relabelled_ciphertext_does_not_open(change: Change) -> None:
    with pytest.raises(DecryptError):
        Reader().read(forge(BUNDLE, change))


def test_exchanged_ciphertext_does_not_open() -> None:
    def change(payload: list[Any]) -> None:
        one, other = payload[6][0], payload[6][2]
        payload[6][0], payload[6][2] = relabel(other, header_of(one)), relabel(one, header_of(other))

    with pytest.raises(DecryptError):
        Reader().read(forge(BUNDLE, change))


def exchange_epochs(_: Any, epochs: list[Any]) -> None:
    epochs.reverse()


def take_anothers_epoch(_: Any, epochs: list[Any]) -> None:
    stranger = seal(writer(chain=b"\xc2" * 16), Batch(A, records(1))).data
    epochs[0] = mutable(cbor.decode(stranger))[1][0]


@pytest.mark.parametrize(
    "change",
    [
        lambda _, epochs: epochs.clear(),
        lambda _, epochs: epochs.pop(),
        lambda _, epochs: epochs.append(epochs[0]),
        exchange_epochs,
        take_anothers_epoch,
    ],
    ids=["stripped", "one-less", "one-more", "exchanged", "anothers"],
)
def test_other_epoch_parts_than_signed_are_named_so_and_the_bundle_still_tells_what_it_is(
    change: Callable[[Any, list[Any]], None],
) -> None:
    bundle, whole = parse(repacked(change)), parse(BUNDLE)
    with pytest.raises(EpochHashError):
        bundle.verify(verify_key(ED25519))
    assert (bundle.gateway, bundle.chain, bundle.no, bundle.hash) == (whole.gateway, whole.chain, 0, whole.hash)


def test_an_archive_without_epoch_parts_keeps_the_chain() -> None:
    whole = parse(BUNDLE)
    archived = parse_signed(whole.sign1)
    assert (archived.hash, archived.prev, archived.no, archived.epochs) == (whole.hash, whole.prev, 0, ())
    with pytest.raises(EpochHashError):
        archived.verify(verify_key(ED25519))


def test_a_secret_that_is_not_the_committed_one_is_refused() -> None:
    """The AEAD commits to no key, so a signer could show two recipients two secrets."""
    aad = layout.part_aad(GATEWAY, CHAIN, ED25519.kid)
    header = [layout.EPOCH, 0, A, layout.commitment(b"a" * 32)]
    epoch, _ = cose.encrypt(header, (X25519.recipient,), cbor.encode({1: 4, -1: b"b" * 32}), aad, lambda n: b"k" * n)
    bundle = parse(resigned_with(epoch))
    with pytest.raises(DecryptError, match="commits"):
        bundle.epochs[0].open(bundle, {X25519.kid: X25519})


@pytest.mark.parametrize(
    "plaintext",
    [b"", b"\xa0", {1: 4}, {1: 4, -1: b"short"}, {1: 2, -1: b"s" * 32}, {1: 4, -1: b"s" * 32, -2: 0}, [4, b"s" * 32]],
)
def test_an_epochs_content_is_a_symmetric_key_of_32_bytes(plaintext: Any) -> None:
    content = plaintext if isinstance(plaintext, bytes) else cbor.encode(plaintext)
    aad = layout.part_aad(GATEWAY, CHAIN, ED25519.kid)
    header = [layout.EPOCH, 0, A, layout.commitment(b"s" * 32)]
    epoch, _ = cose.encrypt(header, (X25519.recipient,), content, aad, lambda n: b"k" * n)
    bundle = parse(resigned_with(epoch))
    with pytest.raises(MalformedError):
        bundle.epochs[0].open(bundle, {X25519.kid: X25519})


def test_an_epoch_opens_for_its_recipients_only() -> None:
    bundle = parse(BUNDLE)
    for keys in ({}, {XWING.kid: XWING}, {X25519.kid: XWING}):
        with pytest.raises(DecryptError):
            bundle.epochs[0].open(bundle, keys)


def test_a_part_does_not_open_under_another_epoch() -> None:
    reader = Reader()
    bundle, _ = reader.read(BUNDLE)
    epoch = reader.epochs[CHAIN, 0]
    for wrong in (
        reader.epochs[CHAIN, 1],
        OpenEpoch(epoch.chain, 0, A, bytes(32), epoch.salt),
        OpenEpoch(epoch.chain, 0, A, epoch.secret, b"other"),
    ):
        with pytest.raises(DecryptError):
            bundle.parts[0].open(bundle, wrong)


def test_parts_open_in_any_order_and_again() -> None:
    own, reader = writer(), Reader()
    sealed = [seal(own, Batch(A, records(1, start=number))).data for number in range(20)]
    reader.read(sealed[0])
    for number in (19, 3, 3, 7, 0, 18, 19):
        (part,) = reader.read(sealed[number])[1]
        assert contents(part) == records(1, start=number)


def test_more_items_at_the_end_of_a_payload_are_ignored() -> None:
    def change(payload: list[Any]) -> None:
        payload += ["later", {1: b"x"}, None]

    bundle, parts = Reader().read(forge(BUNDLE, change))
    assert (bundle.no, len(parts)) == (0, 3)


def test_a_bundle_longer_than_65536_bytes_is_refused_though_it_is_signed() -> None:
    fixed = len(forge(BUNDLE, lambda payload: payload.append(bytes(60_000)))) - 60_000
    assert parse(forge(BUNDLE, lambda payload: payload.append(bytes(65_536 - fixed)))).no == 0
    with pytest.raises(MalformedError):
        parse(forge(BUNDLE, lambda payload: payload.append(bytes(65_537 - fixed))))


def test_a_bundle_of_more_than_65536_records_is_refused_though_it_is_signed() -> None:
    def of(count: int) -> Change:
        def change(payload: list[Any]) -> None:
            counts = [4096] * 15 + [count - 15 * 4096]
            payload[6] = [relabel(payload[6][0], [1, 0, step, 0, each]) for step, each in enumerate(counts)]

        return change

    assert len(parse(forge(BUNDLE, of(65_536))).parts) == 16
    with pytest.raises(MalformedError):
        parse(forge(BUNDLE, of(65_537)))


@pytest.mark.parametrize("count", [1, 3])
def test_a_count_that_the_content_contradicts_is_refused(count: int) -> None:
    """A signer who lies about it when sealing, not somebody who relabels."""
    own = writer()
    pack = own._pack

    def lying(batches: Any, now_ms: int) -> Any:
        pieces, rest = pack(batches, now_ms)
        return [type(pieces[0])(each.batch, count, each.plaintext, each.opens) for each in pieces], rest

    own._pack = lying  # type: ignore[method-assign] # a fault injected below the public surface
    with pytest.raises(MalformedError):
        Reader().read(seal(own, Batch(A, records(2))).data)


@pytest.mark.parametrize("steps", [(0, 0), (1, 0), (65_535, 0)])
def test_steps_of_an_epoch_that_do_not_ascend_within_a_bundle_are_refused(steps: tuple[int, int]) -> None:
    def change(payload: list[Any]) -> None:
        payload[6] = [relabel(payload[6][0], [1, 0, step, 0, 1]) for step in steps]

    with pytest.raises(MalformedError, match="ascend"):
        parse(forge(BUNDLE, change))


def test_deriving_the_last_step_takes_bounded_time() -> None:
    started_s = time.process_time()
    assert len(OpenEpoch(CHAIN, 0, A, b"slow" * 8, b"salt").message_key(layout.MAX_STEPS - 1)) == 32
    assert time.process_time() - started_s < 2


def test_errors_are_all_seal_errors() -> None:
    assert all(issubclass(each, SealError) for each in (MalformedError, SignatureError, EpochHashError, DecryptError))


def test_threads_that_open_parts_of_one_epoch_do_not_turn_each_others_ratchet(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Ratchet):
        def next(self) -> bytes:
            time.sleep(0.005)
            return super().next()

    right = Ratchet(b"shared", b"salt")
    keys = [right.next() for _ in range(10)]
    monkeypatch.setattr("gateway.envelope.open.Ratchet", Slow)
    epoch = OpenEpoch(CHAIN, 0, A, b"shared", b"salt")
    with ThreadPoolExecutor(4) as threads:
        results = [threads.submit(lambda: list(map(epoch.message_key, range(10)))) for _ in range(4)]
        assert all(each.result() == keys for each in results)
