"""Keys and certificates in files: read once, refused unless only their owner can read them.

Private keys are PEM (PKCS 8); recipient keys are one line of text, `xwing:HEX` (32-byte seed) or `x25519:HEX`.
"""

import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import NameOID

from gateway.envelope.keys import Recipient, RecipientKey, VerifyKey
from gateway.errors import IdentityError, SealError

EDDSA, ES256, X25519, XWING = -8, -7, 50, -70050
"""COSE algorithms, as in `docs/format.md`."""

_RECIPIENT_ALGORITHMS = {"xwing": XWING, "x25519": X25519}

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | EllipticCurvePublicKey


def read_private(path: Path) -> bytes:
    """What is in a file that holds a secret.

    Raises `IdentityError`, with the command that mends it, if anybody but this user may read or replace the content.
    Root may read what belongs to the owner of its directory: it works for a service then.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read()
    except OSError as error:
        raise IdentityError(f"{path}: cannot be read: {error.strerror}") from error
    owners = {os.geteuid()} if os.geteuid() else {0, path.parent.stat().st_uid}
    if status.st_uid not in owners:
        raise IdentityError(f"{path}: belongs to another user; mend it with: chown {os.geteuid()} {path}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise IdentityError(f"{path}: others may use this key; mend it with: chmod 600 {path}")
    return content


def load_private_key(path: Path, passphrase: bytes | None = None) -> PrivateKey:
    """A signing or TLS key: Ed25519 or P-256 in PEM, encrypted if there is a passphrase. Raises `IdentityError`."""
    content = read_private(path)
    kind = "an unencrypted private key" if passphrase is None else "a private key under this passphrase"
    try:
        key = load_pem_private_key(content, password=passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"{path}: is not {kind} in PEM") from error
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise IdentityError(f"{path}: is neither an Ed25519 nor a P-256 key")


def is_encrypted(path: Path) -> bool:
    """Whether a private key needs a passphrase (PKCS 8). Raises `IdentityError`."""
    return b"BEGIN ENCRYPTED PRIVATE KEY" in read_private(path)


def load_certificate(path: Path) -> bytes:
    """A certificate (chain) in PEM, as it is in the file. Raises `IdentityError`."""
    content = _read_public(path)
    try:
        x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise IdentityError(f"{path}: is not a certificate in PEM") from error
    return content


def load_owner(path: Path, owner: str) -> bytes:
    """A certificate (chain) in PEM whose first common name is `owner`. Raises `IdentityError`."""
    content = load_certificate(path)
    subject = x509.load_pem_x509_certificates(content)[0].subject
    names = [str(name.value) for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [owner]:
        raise IdentityError(f"{path}: belongs to {', '.join(names) or 'nobody'}, not to {owner}; check gateway.id")
    return content


def private_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """A private key as `load_private_key` reads it."""
    protection = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)


def load_verify_key(path: Path) -> VerifyKey:
    """A public signing key in PEM. Raises `IdentityError`."""
    content = _read_public(path)
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"{path}: is not a public key in PEM") from error
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return verify_key(key)
    if isinstance(key, Ed25519PublicKey):
        return verify_key(key)
    raise IdentityError(f"{path}: is neither an Ed25519 nor a P-256 key")


def verify_key(key: PublicKey) -> VerifyKey:
    """The key as the envelope names it: Ed25519 raw, P-256 as x||y."""
    if isinstance(key, Ed25519PublicKey):
        return VerifyKey(EDDSA, key.public_bytes(Encoding.Raw, PublicFormat.Raw))
    return VerifyKey(ES256, key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:])


def load_recipient_key(path: Path) -> RecipientKey:
    """A key that opens what is sealed to it. Raises `IdentityError`."""
    algorithm, private = _recipient_line(path, read_private(path))
    try:
        return RecipientKey(algorithm, private)
    except SealError as error:
        raise IdentityError(f"{path}: is not xwing:HEX or x25519:HEX with a private key of 32 bytes") from error


def load_recipient(path: Path) -> Recipient:
    """The public half, `xwing:HEX` or `x25519:HEX` too. Raises `IdentityError`."""
    algorithm, public = _recipient_line(path, _read_public(path))
    try:
        return Recipient(algorithm, public)
    except SealError as error:
        raise IdentityError(f"{path}: {error}") from error


def _recipient_line(path: Path, content: bytes) -> tuple[int, bytes]:
    name, _, text = content.decode("ascii", "replace").strip().partition(":")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if name not in _RECIPIENT_ALGORITHMS or not key:
        raise IdentityError(f"{path}: is not xwing:HEX or x25519:HEX")
    return _RECIPIENT_ALGORITHMS[name], key


def load_registry(path: Path) -> Mapping[bytes, tuple[str, VerifyKey]]:
    """Whose signatures count for which gateway: kid to (gateway id, key).

    The file is JSON: {"signers": [{"kid": HEX, "gateway": id, "alg": COSE algorithm, "public": HEX}, ...]}.
    Raises `IdentityError`, also for a kid that is not its key's, and for one that two gateways claim.
    """
    registry: dict[bytes, tuple[str, VerifyKey]] = {}
    try:
        for signer in json.loads(_read_public(path))["signers"]:
            key = VerifyKey(int(signer["alg"]), bytes.fromhex(signer["public"]))
            if key.kid.hex() != signer["kid"]:
                raise IdentityError(f"{path}: {signer['kid']} is not the kid of the key beside it")
            owner, _ = registry.setdefault(key.kid, (str(signer["gateway"]), key))
            if owner != signer["gateway"]:
                raise IdentityError(f"{path}: {signer['kid']} signs for {owner} and for {signer['gateway']}")
    except (ValueError, KeyError, TypeError) as error:
        raise IdentityError(f"{path}: is not a registry of signers: {error!r}") from error
    return registry


def stamp(paths: Iterable[Path]) -> tuple[tuple[int, int] | None, ...]:
    """What changes as soon as one of these files is replaced, made or removed. Raises `IdentityError`."""
    return tuple(map(_stamp, paths))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IdentityError(f"{path}: cannot be read: {error.strerror}") from error
    return status.st_mtime_ns, status.st_ino


def _read_public(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IdentityError(f"{path}: cannot be read: {error.strerror}") from error
