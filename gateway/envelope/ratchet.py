"""The symmetric ratchet under an epoch: every part has a key of its own, and the chain key only turns forward.

CK0 = HKDF-Extract(salt, secret); MK_i = HKDF-Expand(CK_i, "iomt-gateway/1 message", 32);
CK_i+1 = HKDF-Expand(CK_i, "iomt-gateway/1 chain", 32). SHA-256 (RFC 5869); salt = the epoch's protected content.
"""

import hmac

_MESSAGE = b"iomt-gateway/1 message\x01"
_CHAIN = b"iomt-gateway/1 chain\x01"


class Ratchet:
    """The state of one epoch at one step; `next` gives the step's key and forgets it."""

    __slots__ = ("_chain_key", "step")

    def __init__(self, secret: bytes, salt: bytes) -> None:
        self._chain_key = hmac.digest(salt, secret, "sha256")
        self.step = 0

    def next(self) -> bytes:
        """The message key of the present step; the ratchet is then at the following one."""
        message_key = hmac.digest(self._chain_key, _MESSAGE, "sha256")
        self._chain_key = hmac.digest(self._chain_key, _CHAIN, "sha256")
        self.step += 1
        return message_key
