"""Taking a gateway out of service: what it signs last, and what is gone then.

The certificate of erasure is a COSE_Sign1 by the gateway's signer, external_aad "iomt-gateway/1 erasure", payload CBOR
[1, gateway id, time ms, [[chain, number, hash] of the last bundle of each lane], bundles that were never receipted].
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.config import CREDENTIALS, IdentitySection
from gateway.durable import shred
from gateway.envelope import cbor, cose, layout
from gateway.envelope.keys import Signer, VerifyKey
from gateway.envelope.receipt import verified_payload
from gateway.errors import MalformedError
from gateway.model import Link


@dataclass(frozen=True, slots=True)
class Erasure:
    """What a gateway says of its own end."""

    gateway: str
    time_ms: int
    heads: tuple[Link, ...]
    """The last bundle of each chain that was the newest of its lane: nothing was sealed after it."""
    discarded: int
    """Bundles that were erased before a receipt covered them."""


def encode_erasure(erasure: Erasure, signer: Signer) -> bytes:
    """The signed certificate."""
    heads = [[each.chain, each.no, each.hash] for each in erasure.heads]
    payload = [layout.VERSION, erasure.gateway, erasure.time_ms, heads, erasure.discarded]
    return cose.sign1(signer, cbor.encode(payload), layout.ERASURE_AAD)


def decode_erasure(data: bytes, key: VerifyKey) -> Erasure:
    """The certificate in `data`, signed by `key`. Raises `SealError`."""
    match verified_payload(data, {key.kid: key}, layout.ERASURE_AAD):
        case [1, str(gateway), int(time_ms), [*heads], int(discarded), *_]:
            return Erasure(gateway, time_ms, tuple(map(_link, heads)), discarded)
    raise MalformedError("not a certificate of erasure, or of an unknown version")


def _link(item: Sequence[object]) -> Link:
    match item:
        case [bytes(chain), int(no), bytes(digest)]:
            return Link(chain, no, digest)
    raise MalformedError("a head is [chain, number, hash]")


def secrets_of(identity: IdentitySection, state_dir: Path, credstore: Path) -> list[Path]:
    """Every file that holds a secret of this gateway: its keys, encrypted or not, and the bonds with wearables."""
    keys = [identity.tls_key, identity.signing_key]
    if identity.keys == "credential":  # what systemd handed over goes with the service
        keys = [credstore / name for name in CREDENTIALS.values()]
    following = (path.with_name(f"{path.name}.next") for path in keys)
    return [path for path in (*keys, *following, state_dir / "bonds.json") if path.exists()]


def erase(secrets: Iterable[Path], state_dir: Path) -> None:
    """Overwrite and delete the secrets, first; then all that the gateway kept. Raises `OSError`."""
    for path in secrets:
        shred(path)
    shutil.rmtree(state_dir)
