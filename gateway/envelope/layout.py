"""What both sides of the envelope agree on: versions, kinds, bounds, and strings that separate one use from another."""

import hashlib
import re

from gateway.envelope import cbor

VERSION = 1
EPOCH, BATCH, GAP = 0, 1, 2
MAX_BUNDLE_BYTES = 65_536
MAX_BUNDLE_RECORDS = 65_536
"""In all batches of a bundle; it bounds what columns of equals may grow to."""
MAX_STEPS = 65_536
"""Parts of one epoch; it bounds what deriving a key may cost."""
ID_BYTES = 16
HASH_BYTES = 32
SECRET_BYTES = 32
NO_HASH = bytes(HASH_BYTES)

BUNDLE_AAD = b"iomt-gateway/1 bundle"
RECEIPT_AAD = b"iomt-gateway/1 receipt"
KEY_LIST_AAD = b"iomt-gateway/1 keys"
SITE_AAD = b"iomt-gateway/1 site"
ERASURE_AAD = b"iomt-gateway/1 erasure"

GATEWAY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def part_aad(gateway: str, chain: bytes, signer_kid: bytes) -> bytes:
    """What binds a part to the gateway, the chain and the signer that it was sealed under."""
    return cbor.encode(["iomt-gateway/1 part", gateway, chain, signer_kid])


def commitment(secret: bytes) -> bytes:
    """What an epoch part's header says of its secret; the AEAD itself commits to no key."""
    return sha256(b"iomt-gateway/1 epoch" + secret)


def self_stream(gateway: str) -> bytes:
    """The stream of the gateway itself: 16 bytes."""
    return sha256(b"iomt-gateway/1 self" + gateway.encode())[:ID_BYTES]


def not_patient_stream(stream: bytes) -> bytes:
    """Where what is not a patient's travels that was measured in `stream`'s place; nothing leads back: 16 bytes."""
    return sha256(b"iomt-gateway/1 not-a-patient" + stream)[:ID_BYTES]


def urgent_root(gateway: str) -> bytes:
    """What the very first chain of a gateway's urgent lane names, as the one before that is not there: 16 bytes."""
    return sha256(b"iomt-gateway/1 urgent" + gateway.encode())[:ID_BYTES]


def sha256(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()
