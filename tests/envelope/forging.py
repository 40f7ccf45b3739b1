"""Changing a bundle in one place and packing it again."""

from collections.abc import Callable
from typing import Any

from cbor2 import CBORTag

from gateway.envelope import cbor, layout
from tests.envelope.conftest import (
    forge,
    header_of,
    mutable,
    one_bundle,
    relabel,
)

BUNDLE = one_bundle()


MAX = 2**53 - 1


Change = Callable[[list[Any]], None]


def put(place: int, value: Any) -> Change:
    def change(payload: list[Any]) -> None:
        payload[place] = value

    return change


def put_in(place: int, inner: int, value: Any) -> Change:
    def change(payload: list[Any]) -> None:
        payload[place][inner] = value

    return change


def put_header(part: int, place: int, value: Any) -> Change:
    """Rewrite one item of a part's header, the ciphertext staying what it is."""

    def change(payload: list[Any]) -> None:
        header = header_of(payload[6][part])
        header[place] = value
        payload[6][part] = relabel(payload[6][part], header)

    return change


def repacked(change: Callable[[Any, list[Any]], None], data: bytes = BUNDLE) -> bytes:
    """The bundle with its signed object or its epoch parts changed, nothing signed again."""
    signed, epochs = mutable(cbor.decode(data))
    change(signed, epochs)
    return cbor.encode([signed, epochs])


def resigned_with(epoch: CBORTag) -> bytes:
    """The bundle with `epoch` as its only epoch part, rightly hashed."""

    def change(payload: list[Any]) -> None:
        payload[5] = [layout.sha256(cbor.encode(epoch))]

    signed, _ = mutable(cbor.decode(forge(BUNDLE, change)))
    return cbor.encode([signed, [epoch]])
