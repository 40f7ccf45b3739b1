"""Keys in a TPM 2.0, through tpm2-pytss: made in it, used in it, and nowhere else in the clear.

A key's file (TSS2 PRIVATE KEY) holds what this one TPM can load, below a storage key that the TPM keeps at a persistent
handle and of which no copy exists. Evicting the storage key ends all keys below it, whoever has copies of the files.
The TPM has to be reached through a resource manager: `/dev/tpmrm0` is the kernel's.
"""

import hashlib
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.durable import write_durably
from gateway.errors import IdentityError

if TYPE_CHECKING:
    from cryptography.utils import Buffer
    from tpm2_pytss import ESAPI
    from tpm2_pytss.tsskey import TSSPrivKey

_HANDLES = 0x8110_0000
"""Persistent handles from here on are those of storage keys, one for every directory of keys."""
_HANDLE_MASK = 0xFFFF


class TpmKey(ec.EllipticCurvePrivateKey):
    """A P-256 key that a TPM holds; it signs with ECDSA and SHA-256 alone, and raises `IdentityError` if it cannot."""

    def __init__(self, content: bytes, tcti: str, path: Path) -> None:
        self._path, self._tcti = path, tcti
        parsed = _parse(content, path, tcti)
        public = load_pem_public_key(parsed.public.to_pem())
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            raise IdentityError(f"{path}: is no P-256 key of a TPM")
        self._public = public
        with _declared(path, tcti):
            self._tpm = _open(tcti)
            weakref.finalize(self, self._tpm.close)
            self._handle = parsed.load(self._tpm)

    def sign(self, data: "Buffer", signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """A signature as DER."""
        from tpm2_pytss import TPM2_ALG, TPM2_RH, TPM2_ST, TPMT_SIG_SCHEME, TPMT_TK_HASHCHECK

        if not isinstance(signature_algorithm.algorithm, SHA256):
            raise IdentityError(f"{self._path}: signs with SHA-256 alone")
        scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.ECDSA)
        scheme.details.any.hashAlg = TPM2_ALG.SHA256
        anywhere = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
        with _declared(self._path, self._tcti):
            signed = self._tpm.sign(self._handle, hashlib.sha256(data).digest(), scheme, anywhere)
        made = signed.signature.ecdsa  # lives as long as `signed`
        r, s = (int.from_bytes(bytes(each), "big") for each in (made.signatureR, made.signatureS))
        return encode_dss_signature(r, s)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public key."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """Bits."""
        return self._public.key_size

    def exchange(self, *_: object) -> NoReturn:
        """Not what the key is for."""
        raise IdentityError(f"{self._path}: signs alone")

    def private_numbers(self) -> NoReturn:
        """Nobody has them."""
        raise IdentityError(f"{self._path}: never leaves its TPM")

    def private_bytes(self, *_: object) -> NoReturn:
        """Nobody has them."""
        self.private_numbers()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


def make(path: Path, tcti: str) -> None:
    """Make a P-256 key in the TPM, and the file that lets this TPM load it. Raises `IdentityError`, `OSError`."""
    with _declared(path, tcti):
        from tpm2_pytss.tsskey import TSSPrivKey

        tpm = _open(tcti)
        try:
            content = TSSPrivKey.create_ecc(tpm, parent=_storage_key(tpm, path)).to_pem()
        finally:
            tpm.close()
    write_durably(path, content)


def destroy(content: bytes, tcti: str, path: Path) -> None:
    """End a key, and all that was made in its directory, for ever. Raises `IdentityError`."""
    handle = _parse(content, path, tcti).parent
    if handle & ~_HANDLE_MASK != _HANDLES:
        raise IdentityError(f"{path}: lies below a storage key {handle:#x} that others may use; it is not destroyed")
    with _declared(path, tcti):
        from tpm2_pytss import ESYS_TR

        tpm = _open(tcti)
        try:
            if _exists(tpm, handle):
                tpm.evict_control(ESYS_TR.OWNER, tpm.tr_from_tpmpublic(handle), handle)
        finally:
            tpm.close()


def _storage_key(tpm: "ESAPI", path: Path) -> int:
    """The persistent handle of the storage key for a directory of keys, which is made if there is none."""
    from tpm2_pytss import ESYS_TR, TPM2B_PUBLIC, TPMA_OBJECT

    handle = _HANDLES + int.from_bytes(hashlib.sha256(bytes(path.parent.absolute())).digest()[:2], "big")
    template = TPM2B_PUBLIC.parse(
        "ecc256:aes128cfb",
        objectAttributes=TPMA_OBJECT.RESTRICTED
        | TPMA_OBJECT.DECRYPT
        | TPMA_OBJECT.FIXEDTPM
        | TPMA_OBJECT.FIXEDPARENT
        | TPMA_OBJECT.SENSITIVEDATAORIGIN
        | TPMA_OBJECT.USERWITHAUTH
        | TPMA_OBJECT.NODA,
    )
    if not _exists(tpm, handle):
        primary, *_ = tpm.create_primary(None, template)
        private, public, *_ = tpm.create(primary, None, template)
        fresh = tpm.load(primary, private, public)
        tpm.evict_control(ESYS_TR.OWNER, fresh, handle)
        tpm.flush_context(fresh)
        tpm.flush_context(primary)
    found, *_ = tpm.read_public(tpm.tr_from_tpmpublic(handle))
    if found.publicArea.objectAttributes != template.publicArea.objectAttributes:
        raise IdentityError(f"{path}: the TPM's handle {handle:#x} is taken by another program's object")
    return handle


def _exists(tpm: "ESAPI", handle: int) -> bool:
    from tpm2_pytss import TPM2_CAP

    _, found = tpm.get_capability(TPM2_CAP.HANDLES, handle, 1)
    return handle in list(found.data.handles)


def _open(tcti: str) -> "ESAPI":
    from tpm2_pytss import ESAPI

    os.environ.setdefault("TSS2_LOG", "all+none")  # what fails is raised, and need not be printed too
    return ESAPI(tcti)


def _parse(content: bytes, path: Path, tcti: str) -> "TSSPrivKey":
    with _declared(path, tcti):
        from tpm2_pytss.tsskey import TSSPrivKey

        try:
            return TSSPrivKey.from_pem(content)
        except ValueError as error:
            raise IdentityError(f"{path}: is not a key of a TPM") from error


@contextmanager
def _declared(path: Path, tcti: str) -> Iterator[None]:
    try:
        from tpm2_pytss import TSS2_Exception
    except ImportError as error:
        raise IdentityError(
            f"{path}: needs tpm2-pytss and libtss2 ({error}); install iomt-gateway[tpm], or change identity.keys"
        ) from error
    try:
        yield
    except TSS2_Exception as error:
        raise IdentityError(f"{path}: the TPM {tcti} refuses: {error}; see docs/identity.md, keys in a TPM") from error
