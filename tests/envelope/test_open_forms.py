"""A bundle of another form than the format's is refused, though it is signed."""

from collections.abc import Callable
from typing import Any

import pytest
from cbor2 import CBORTag

from gateway.envelope import cbor
from gateway.envelope.open import parse
from gateway.errors import MalformedError
from tests.envelope.conftest import (
    CHAIN,
    A,
    forge,
    header_of,
    relabel,
)
from tests.envelope.forging import BUNDLE, MAX, Change, put, put_header, repacked


def with_protected(item: CBORTag, protected: Any) -> CBORTag:
    return CBORTag(item.tag, [protected if isinstance(protected, bytes) else cbor.encode(protected), *item.value[1:]])


def with_item(item: CBORTag, place: int, value: Any) -> CBORTag:
    return CBORTag(item.tag, [*item.value[:place], value, *item.value[place + 1 :]])


def on_part(edit: Callable[[CBORTag], Any]) -> Change:
    def change(payload: list[Any]) -> None:
        payload[6][0] = edit(payload[6][0])

    return change


@pytest.mark.parametrize(
    "change",
    [
        put(0, 0),
        put(0, 2),
        put(0, None),
        put(1, ""),
        put(1, "a.b"),
        put(1, "x" * 65),
        put(1, "gw-1\n"),
        put(1, b"gw-1"),
        put(2, CHAIN),
        put(2, []),
        put(2, [CHAIN]),
        put(2, [CHAIN, None]),
        put(2, [CHAIN, None, 0]),
        put(2, [CHAIN, CHAIN, None]),
        put(2, [CHAIN, b"short", 0]),
        put(2, [CHAIN, CHAIN, -1]),
        put(2, [CHAIN, CHAIN, MAX + 1]),
        put(2, [CHAIN, None, None, None]),
        put(2, [CHAIN[:15], None, None]),
        put(3, -1),
        put(3, 1),
        put(3, MAX + 1),
        put(3, None),
        put(4, bytes(31)),
        put(4, b"\x01" * 32),
        put(4, None),
        put(5, None),
        put(5, [bytes(31)]),
        put(5, [1]),
        put(6, []),
        put(6, None),
        put(6, [None]),
        lambda payload: payload.pop(),
        put_header(0, 0, 0),
        put_header(0, 0, 3),
        put_header(0, 0, None),
        put_header(0, 1, -1),
        put_header(0, 2, 65_536),
        put_header(0, 2, -1),
        put_header(0, 3, MAX),
        put_header(0, 3, -1),
        put_header(0, 4, 0),
        put_header(0, 4, 4097),
        put_header(2, 4, 0),
        put_header(2, 4, MAX),
        on_part(lambda part: relabel(part, [*header_of(part), 0])),
        on_part(lambda part: relabel(part, header_of(part)[:4])),
        on_part(lambda part: with_protected(part, {1: 24})),
        on_part(lambda part: with_protected(part, {1: 3, -70001: header_of(part)})),
        on_part(lambda part: with_protected(part, {1: 24, 5: bytes(12), -70001: header_of(part)})),
        on_part(lambda part: with_protected(part, {1: 24, 6: b"\0", -70001: header_of(part)})),
        on_part(lambda part: with_protected(part, b"")),
        on_part(lambda part: with_item(part, 1, {5: bytes(12)})),
        on_part(lambda part: with_item(part, 1, {4: b"kid"})),
        on_part(lambda part: with_item(part, 2, None)),
        on_part(lambda part: with_item(part, 0, None)),
        on_part(lambda part: CBORTag(96, part.value)),
        on_part(lambda part: CBORTag(96, [*part.value, cbor.decode(BUNDLE)[1][0].value[3]])),
        on_part(lambda part: CBORTag(18, part.value)),
        on_part(lambda part: CBORTag(16, [*part.value, b""])),
        on_part(lambda part: part.value),
    ],
)
def test_a_payload_of_another_form_is_refused_though_it_is_signed(change: Change) -> None:
    with pytest.raises(MalformedError):
        parse(forge(BUNDLE, change))


def on_epoch(edit: Callable[[CBORTag], Any]) -> Callable[[Any, list[Any]], None]:
    def change(_: Any, epochs: list[Any]) -> None:
        epochs[0] = edit(epochs[0])

    return change


def with_recipient(edit: Callable[[list[Any]], Any]) -> Callable[[Any, list[Any]], None]:
    return on_epoch(lambda epoch: with_item(epoch, 3, [edit(epoch.value[3][0])]))


def on_signature(edit: Callable[[CBORTag], Any]) -> Callable[[Any, list[Any]], None]:
    def change(signed: Any, _: list[Any]) -> None:
        signed.value[:] = edit(signed).value

    return change


@pytest.mark.parametrize(
    "change",
    [
        on_epoch(lambda epoch: relabel(epoch, [1, *header_of(epoch)[1:]])),
        on_epoch(lambda epoch: relabel(epoch, [0, -1, *header_of(epoch)[2:]])),
        on_epoch(lambda epoch: relabel(epoch, [0, 0, b"short", header_of(epoch)[3]])),
        on_epoch(lambda epoch: relabel(epoch, [0, 0, A, b"short"])),
        on_epoch(lambda epoch: relabel(epoch, header_of(epoch)[:3])),
        on_epoch(lambda epoch: with_item(epoch, 1, {5: bytes(12)})),
        on_epoch(lambda epoch: with_item(epoch, 3, [])),
        on_epoch(lambda epoch: with_item(epoch, 3, epoch.value[3] * 9)),
        on_epoch(lambda epoch: with_item(epoch, 3, [None])),
        on_epoch(lambda epoch: CBORTag(16, epoch.value)),
        on_epoch(lambda epoch: CBORTag(16, epoch.value[:3])),
        on_epoch(lambda _: None),
        with_recipient(lambda one: [cbor.encode({1: 50}), *one[1:]]),
        with_recipient(lambda one: [cbor.encode({1: 50, 4: b"short"}), *one[1:]]),
        with_recipient(lambda one: [b"\xa2" + b"\x04\x50" + bytes(16) + b"\x01\x18\x32", *one[1:]]),
        with_recipient(lambda one: [one[0], {}, one[2]]),
        with_recipient(lambda one: [one[0], {**one[1], 4: b"kid"}, one[2]]),
        with_recipient(lambda one: [one[0], {-4: None}, one[2]]),
        with_recipient(lambda one: [one[0], one[1], None]),
        with_recipient(lambda one: [*one, []]),
        on_signature(lambda signed: with_item(signed, 1, {4: b"kid"})),
        on_signature(lambda signed: with_item(signed, 1, {11: 1})),
        on_signature(lambda signed: with_item(signed, 3, bytes(63))),
        on_signature(lambda signed: with_item(signed, 3, bytes(65))),
        on_signature(lambda signed: with_protected(signed, {1: -8})),
        on_signature(lambda signed: with_protected(signed, {1: -8, 4: bytes(15)})),
        on_signature(lambda signed: with_protected(signed, {1: -8, 2: [4], 4: bytes(16)})),
        on_signature(lambda signed: with_protected(signed, b"")),
        on_signature(lambda signed: with_item(signed, 2, None)),
        on_signature(lambda signed: with_item(signed, 2, b"\x00")),
        on_signature(lambda signed: with_item(signed, 2, signed.value[2] + b"\x00")),
    ],
)
def test_a_structure_of_another_form_is_refused(change: Callable[[Any, list[Any]], None]) -> None:
    with pytest.raises(MalformedError):
        parse(repacked(change))


@pytest.mark.parametrize(
    "data",
    [
        cbor.encode([*cbor.decode(BUNDLE), []]),
        cbor.encode([cbor.decode(BUNDLE)[0]]),
        cbor.encode([cbor.decode(BUNDLE)[0], None]),
        cbor.encode([cbor.decode(BUNDLE)[0].value, cbor.decode(BUNDLE)[1]]),
        cbor.encode(cbor.decode(BUNDLE)[0]),
        b"\x9f" + BUNDLE[1:] + b"\xff",
        b"\x98\x02" + BUNDLE[1:],
        b"\x82\xd8\x12" + BUNDLE[2:],
        b"\xd9\xd9\xf7" + BUNDLE,
    ],
    ids=["three", "one", "null", "untagged", "bare", "indefinite", "long-array", "long-tag", "self-described"],
)
def test_a_bundle_of_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(data)
