"""The cloud's own keys: those that open what gateways seal, and the list that tells gateways of them."""

import os

from gateway.envelope.keylist import KeyList, encode_key_list
from gateway.envelope.keys import RecipientKey, Signer, VerifyKey
from gateway.identity.files import XWING

_DAY_MS = 86_400_000
LIST_DAYS = 397
"""How long a key list may be taken into use; the one in use stays in use."""


def new_recipient_key() -> tuple[RecipientKey, bytes]:
    """A fresh X-Wing key, and the line that a file keeps of it."""
    seed = os.urandom(32)
    return RecipientKey(XWING, seed), f"xwing:{seed.hex()}\n".encode()


def sign_key_list(
    serial: int, recipients: tuple[RecipientKey, ...], receivers: tuple[VerifyKey, ...], root: Signer, *, now_ms: int
) -> bytes:
    """The fleet's key list, valid from yesterday on: clocks differ."""
    key_list = KeyList(
        serial=serial,
        not_before_ms=now_ms - _DAY_MS,
        not_after_ms=now_ms + LIST_DAYS * _DAY_MS,
        recipients=tuple(each.recipient for each in recipients),
        receivers=receivers,
    )
    return encode_key_list(key_list, root)
