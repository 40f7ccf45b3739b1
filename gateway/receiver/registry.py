"""Whose signatures count for which gateway: one file, which the receiver reads again as soon as it changes.

A gateway's signer is learned from its certificate and pinned at first sight. Another one needs the word of the one
before (event `signer`) or of an operator. JSON: {"signers": [{"kid", "gateway", "alg", "public", "revoked", "last"}],
"announced": [{"gateway", "kid"}], "allowed": [{"gateway", "kid"}]}; all but the first four of a signer may be absent.
"""

import contextlib
import datetime as dt
import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509

from gateway.durable import give_to_owner, write_durably
from gateway.envelope.keys import VerifyKey
from gateway.errors import IdentityError, SignerError
from gateway.identity.chain import owner, verify_chain
from gateway.identity.files import PublicKey, load_registry, verify_key
from gateway.receiver.plan import Last

_NOBODY: dict[str, Any] = {"signers": [], "announced": [], "allowed": []}


class Registry(Mapping[bytes, tuple[str, VerifyKey]]):
    """Every signer that counts: kid to (gateway, key). Raises `IdentityError` if the file cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._signers: Mapping[bytes, tuple[str, VerifyKey]] = {}
        self._limits: Mapping[bytes, Last] = {}
        self._dead: frozenset[bytes] = frozenset()
        self.version = 0
        """Grows with every change of the file that was noticed."""
        self.refresh()

    def __getitem__(self, kid: bytes) -> tuple[str, VerifyKey]:
        return self._signers[kid]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._signers)

    def __len__(self) -> int:
        return len(self._signers)

    def limits(self) -> Mapping[bytes, Last]:
        """Read the file again if need be; the revoked signers of which what they signed up to a bundle still counts."""
        self.refresh()
        return self._limits

    def refresh(self) -> None:
        """Read the file if it has changed."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise IdentityError(f"{self._path}: cannot be read: {error.strerror}") from error
        seen = (status.st_mtime_ns, status.st_ino, status.st_size)
        if seen == self._seen:
            return
        everyone = load_registry(self._path)
        entries = self._read()["signers"]
        revoked = {bytes.fromhex(each["kid"]): each.get("last") for each in entries if each.get("revoked")}
        self._limits = {kid: Last(bytes.fromhex(last[0]), last[1]) for kid, last in revoked.items() if last}
        self._dead = frozenset(revoked)
        self._signers = {
            kid: signer for kid, signer in everyone.items() if kid not in self._dead or kid in self._limits
        }
        self._seen = seen
        self.version += 1

    def learn(
        self,
        gateway: str,
        certificates: bytes,
        roots: Sequence[x509.Certificate],
        *,
        now: dt.datetime,
        revoked: frozenset[int] = frozenset(),
    ) -> bool:
        """Take the signer in a gateway's certificate (PEM, issuers after it); True if it is new.

        Raises `SignerError` if it must not count: its chain, name or use is wrong, it or its certificate (`revoked`:
        serial numbers) is revoked, or the gateway had a signer before that has not announced it and no operator has
        allowed it.
        """
        leaf = _certified(gateway, certificates, roots, now)
        if leaf.serial_number in revoked:
            raise SignerError(f"the signer's certificate of {gateway} is revoked")
        key = _signer(gateway, leaf)
        kid = key.kid
        if kid in self._dead:
            raise SignerError(f"signer {kid.hex()} of {gateway} is revoked")
        if kid in self._signers:
            if self._signers[kid][0] != gateway:
                raise SignerError(f"signer {kid.hex()} of {gateway} is that of {self._signers[kid][0]}")
            return False
        with self._changing() as content:
            word = {"gateway": gateway, "kid": kid.hex()}
            self.refresh()
            vouched = word in content["announced"] or word in content["allowed"]
            if not vouched and any(owner == gateway for owner, *_ in self.everyone().values()):
                raise SignerError(
                    f"signer {kid.hex()} of {gateway} is new, and the one before has not announced it; if it is right:"
                    f" iomt-receiver signers allow {gateway} {kid.hex()}"
                )
            content["signers"].append({**word, "alg": key.alg, "public": key.public.hex()})
        return True

    def announce(self, gateway: str, public: bytes) -> None:
        """Keep what a signer said of its successor (event `signer`)."""
        self._say("announced", gateway, VerifyKey(_algorithm(public), public).kid)

    def allow(self, gateway: str, kid: bytes) -> None:
        """An operator's word for the next signer of a gateway."""
        self._say("allowed", gateway, kid)

    def revoke(self, gateway: str, kid: bytes | None = None, last: Last | None = None) -> list[bytes]:
        """Let a gateway's signer, or all of them, count no more, but up to the bundle `last`; returns their kids."""
        gone = []
        with self._changing() as content:
            for each in content["signers"]:
                if each["gateway"] == gateway and kid in {None, bytes.fromhex(each["kid"])}:
                    each["revoked"] = True
                    each["last"] = None if last is None else [last.chain.hex(), last.no]
                    gone.append(bytes.fromhex(each["kid"]))
            for words in (content["announced"], content["allowed"]):
                words[:] = [each for each in words if each["gateway"] != gateway]
        return gone

    def everyone(self) -> Mapping[bytes, tuple[str, VerifyKey, bool]]:
        """Every signer that ever counted: kid to (gateway, key, whether it is revoked)."""
        return {kid: (gateway, key, kid in self._dead) for kid, (gateway, key) in load_registry(self._path).items()}

    def gateways(self) -> set[str]:
        """Every gateway that has a signer which is not revoked."""
        return {gateway for gateway, _, dead in self.everyone().values() if not dead}

    def _say(self, list_name: str, gateway: str, kid: bytes) -> None:
        word = {"gateway": gateway, "kid": kid.hex()}
        with self._changing() as content:
            if word not in content[list_name]:
                content[list_name].append(word)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """Read, let the caller change, and replace the file; commands and receivers take turns."""
        try:
            with self._path.with_name(f"{self._path.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                content = self._read()
                yield content
                write_durably(self._path, (json.dumps(content, indent=1) + "\n").encode())
                give_to_owner(self._path)
        except OSError as error:
            raise IdentityError(f"{self._path}: cannot be written: {error.strerror}") from error
        self.refresh()

    def _read(self) -> dict[str, Any]:
        try:
            return _NOBODY | {name: list(words) for name, words in json.loads(self._path.read_bytes()).items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise IdentityError(f"{self._path}: is not a registry of signers: {error!r}") from error


def _certified(
    gateway: str, certificates: bytes, roots: Sequence[x509.Certificate], now: dt.datetime
) -> x509.Certificate:
    try:
        leaf, *issuers = x509.load_pem_x509_certificates(certificates)
        if owner(leaf) != gateway:
            raise SignerError(f"the certificate of {owner(leaf)!r} is no signer of {gateway}")
        verify_chain(leaf, roots=roots, issuers=issuers, usage="sign", at=now)
    except (ValueError, IdentityError) as error:
        raise SignerError(f"{gateway} shows no signer's certificate: {error}") from error
    return leaf


def _signer(gateway: str, leaf: x509.Certificate) -> VerifyKey:
    key = leaf.public_key()
    if not isinstance(key, PublicKey):
        raise SignerError(f"the signer of {gateway} is neither an Ed25519 nor a P-256 key")
    return verify_key(key)


def _algorithm(public: bytes) -> int:
    """Ed25519 keys have 32 bytes, P-256 keys 64."""
    return -8 if len(public) == 32 else -7  # noqa: PLR2004 - as in docs/format.md
