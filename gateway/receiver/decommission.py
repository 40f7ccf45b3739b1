"""A gateway's certificate of erasure, at its site: whether it is the gateway's own, and whether the store agrees."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.envelope import cbor, cose
from gateway.envelope.keys import VerifyKey
from gateway.errors import SignerError
from gateway.identity.erasure import Erasure, decode_erasure
from gateway.model import Link
from gateway.receiver import queries
from gateway.receiver.store import Store


@dataclass(frozen=True, slots=True)
class Verified:
    """What a certificate says, who signed it, and what the store has of the last bundle of each lane."""

    erasure: Erasure
    signer: bytes
    revoked: bool
    """Its signer counts no more; whether that was so when it signed, nobody can tell."""
    heads: tuple[tuple[Link, str], ...]
    """"stored"; "missing": it was erased before it was sent, or is on its way; "contradicted": the store has another
    bundle in its place, or one after it."""

    @property
    def contradicted(self) -> bool:
        """Whether the gateway signed bundles that its certificate does not know of."""
        return any(state == "contradicted" for _, state in self.heads)


def verify(data: bytes, everyone: Mapping[bytes, tuple[str, VerifyKey, bool]], store: Store) -> Verified:
    """Judge a certificate; `everyone` is whoever ever signed for which gateway, by kid.

    Raises `SealError` for what is none, `SignerError` for one that its gateway did not sign, `StoreError`.
    """
    kid = cose.read_sign1(cbor.decode(data)).kid
    if kid not in everyone:
        raise SignerError(f"signed by {kid.hex()}, which never signed for a gateway of this site")
    gateway, key, revoked = everyone[kid]
    erasure = decode_erasure(data, key)
    if erasure.gateway != gateway:
        raise SignerError(f"signed by {gateway}, but for {erasure.gateway}")
    return Verified(erasure, kid, revoked, tuple((head, _state(store, gateway, head)) for head in erasure.heads))


def _state(store: Store, gateway: str, head: Link) -> str:
    found = store.rows(queries.FROM_BUNDLE, gateway, head.chain, head.no)
    if not found:
        return "missing"
    return "stored" if [(no, bytes(digest)) for no, digest in found] == [(head.no, head.hash)] else "contradicted"
