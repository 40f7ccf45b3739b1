"""What a test asks of a receiver's store, in one word each."""

import pytest

from gateway.envelope import cbor, cose, layout
from gateway.envelope.open import parse
from gateway.model import Link, ReceiptRange
from gateway.receiver.plan import Message
from tests.receiver.conftest import Box, Cloud

A, B = b"\x0a" * 16, b"\x0b" * 16


def link(message: Message) -> Link:
    bundle = parse(message.payload)
    return Link(bundle.chain, bundle.no, bundle.hash)


def covers(*messages: Message) -> ReceiptRange:
    """The range from the first to the last of these."""
    first, last = link(messages[0]), link(messages[-1])
    return ReceiptRange(first.chain, first.no, last.no, last.hash)


def causes(cloud: Cloud) -> list[str]:
    return [cause for (cause,) in cloud.rows("SELECT cause FROM quarantine ORDER BY id")]


def forks(cloud: Cloud) -> list[str]:
    return [cause for (cause,) in cloud.rows("SELECT cause FROM forks ORDER BY cause")]


def count(cloud: Cloud, table: str = "readings") -> int:
    [(number,)] = cloud.rows(f"SELECT count(*) FROM {table}")  # noqa: S608 - our own names
    return int(number)


def bound(monkeypatch: pytest.MonkeyPatch, **bounds: int) -> None:
    """Lower bounds of both stores."""
    for module in ("gateway.receiver.writing", "gateway.receiver.postgres.writing"):
        for name, value in bounds.items():
            monkeypatch.setattr(f"{module}.{name}", value)


def resealed(message: Message, box: Box, *, no: int, prev: bytes | None = None) -> Message:
    """The same parts in a bundle of another number, as a gateway that contradicts itself would sign it."""
    bundle = parse(message.payload)
    payload = cbor.decode(bundle._signed.payload)
    fields = [*payload[:2], [bundle.chain], no, prev or bundle.prev, *payload[5:]]
    sign1 = cose.sign1(box.signer, cbor.encode(fields), layout.BUNDLE_AAD)
    return Message(box.gateway, b"\x82" + sign1 + message.payload[1 + len(bundle.sign1) :])
