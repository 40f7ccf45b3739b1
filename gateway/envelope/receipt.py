"""What a receiver signs after its commit: which bundles its store holds, and which it never will."""

from collections.abc import Mapping
from typing import Any

from gateway.envelope import cbor, cose, layout
from gateway.envelope.keys import Signer, VerifyKey
from gateway.errors import ReceiptError, SealError
from gateway.model import Receipt, ReceiptRange, Refusal, StoreId

MAX_RANGES = 256
_MAX_BYTES = 65_536


def encode_receipt(receipt: Receipt, signer: Signer) -> bytes:
    """COSE_Sign1 of the receipt. Raises `ReceiptError` if it has more than 256 ranges."""
    if len(receipt.ranges) > MAX_RANGES:
        raise ReceiptError("a receipt has at most 256 ranges")
    payload = [
        layout.VERSION,
        receipt.gateway,
        [receipt.store.store, receipt.store.incarnation],
        receipt.counter,
        [[each.chain, each.first, each.last, each.hash] for each in receipt.ranges],
        [[each.chain, each.no, each.cause] for each in receipt.refused],
        receipt.time_ms,
    ]
    return cose.sign1(signer, cbor.encode(payload), layout.RECEIPT_AAD)


def decode_receipt(data: bytes, receivers: Mapping[bytes, VerifyKey]) -> Receipt:
    """The receipt in `data`, signed by one of `receivers` (by kid). Raises `ReceiptError`."""
    try:
        payload = verified_payload(data, receivers, layout.RECEIPT_AAD)
    except SealError as error:
        raise ReceiptError(f"not a receipt to believe: {error}") from error
    match payload:
        case [
            1,
            str(gateway),
            [bytes(store), int(incarnation)],
            int(counter),
            list(ranges),
            list(refused),
            int(time),
            *_,
        ]:
            pass
        case _:
            raise ReceiptError("not a receipt, or of an unknown version")
    if not all(map(cbor.is_uint, (incarnation, counter, time))) or len(ranges) > MAX_RANGES:
        raise ReceiptError("a receipt's number is out of range")
    return Receipt(
        gateway=gateway,
        store=StoreId(store, incarnation),
        counter=counter,
        ranges=tuple(map(_range, ranges)),
        refused=tuple(map(_refusal, refused)),
        time_ms=time,
    )


def verified_payload(data: bytes, keys: Mapping[bytes, VerifyKey], external_aad: bytes) -> Any:  # noqa: ANN401 - any CBOR value
    """The decoded payload of a COSE_Sign1 by one of `keys`. Raises `SealError`."""
    if len(data) > _MAX_BYTES:
        raise SealError("too long")
    signed = cose.read_sign1(cbor.decode(data))
    key = keys.get(signed.kid)
    if key is None:
        raise SealError("signed by a key that is not pinned")
    signed.verify(key, external_aad)
    return cbor.decode(signed.payload)


def _range(item: Any) -> ReceiptRange:  # noqa: ANN401 - any CBOR value
    match item:
        case [bytes(chain), int(first), int(last), bytes(digest), *_] if (
            len(chain) == layout.ID_BYTES
            and len(digest) == layout.HASH_BYTES
            and cbor.is_uint(first)
            and cbor.is_uint(last)
            and first <= last
        ):
            return ReceiptRange(chain, first, last, digest)
    raise ReceiptError("a range is [chain id, first, last, hash of last]")


def _refusal(item: Any) -> Refusal:  # noqa: ANN401 - any CBOR value
    match item:
        case [bytes(chain), int(no), str(cause), *_] if len(chain) == layout.ID_BYTES and cbor.is_uint(no):
            return Refusal(chain, no, cause)
    raise ReceiptError("a refusal is [chain id, no, cause]")
