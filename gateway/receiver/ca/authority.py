"""A site's certificate authority: who gets a certificate, who gets another one, and whose is dead.

The root's key is offline; an issuing certificate, whose key lies here, signs. Every decision takes the time as an
argument and leaves a line in the audit log.
"""

import datetime as dt
import hashlib
import secrets
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.config import RESERVED
from gateway.durable import write_durably
from gateway.envelope.layout import GATEWAY_ID
from gateway.errors import ConfigError, EnrolmentError, IdentityError
from gateway.identity.chain import owner
from gateway.identity.files import PublicKey, is_encrypted, load_private_key, private_pem, read_private
from gateway.receiver.ca.database import Database
from gateway.receiver.ca.issue import Issuer, certify, profiles, revocation_list
from gateway.receiver.config import CaSection

TLS, SIGNING = "gateway", "signing"
"""The profiles of the two certificates that every gateway has."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RENEWAL_START, _RENEWAL_SPREAD = 0.5, 0.1
"""Of its life a certificate has seen this much when its holder should begin to ask for the next, and take so long."""
_CODE_GROUPS, _CODE_GROUP = 4, 5
_KEYS: dict[str, tuple[type[PublicKey], ...]] = {
    TLS: (EllipticCurvePublicKey,),
    SIGNING: (Ed25519PublicKey, EllipticCurvePublicKey),
}


@dataclass(frozen=True, slots=True)
class Generation:
    """One pair of root and issuing certificate; a rollover adds the next."""

    no: int
    root: x509.Certificate
    link: x509.Certificate | None
    """The root's key certified by the root before, which is how those who trust that one come to trust this one."""
    issuer: x509.Certificate
    active: dt.datetime
    """From when on it issues; before that it is only made known."""


@dataclass(frozen=True, slots=True)
class Issued:
    """One certificate, as the CA remembers it."""

    serial: str
    profile: str
    name: str
    issued: dt.datetime
    not_after: dt.datetime
    revoked: dt.datetime | None


class Authority:
    """The CA in one directory. Methods raise `EnrolmentError` for what they refuse, `StoreError` for a bad disk."""

    def __init__(self, directory: Path, policy: CaSection, passphrase: bytes | None = None) -> None:
        self._directory = directory
        self._policy = policy
        self._passphrase = passphrase
        self._database = Database.open(directory)

    @classmethod
    def open(cls, directory: Path, policy: CaSection, passphrase: bytes | None = None) -> Self:
        """Open an authority that exists, whose issuing keys are encrypted if there is a passphrase.

        Without one it is read where the policy says. Raises `ConfigError` if there is none in `directory`.
        """
        if not directory.is_dir():
            raise ConfigError(f"{directory}: there is no CA; make a site with: iomt-receiver init")
        if passphrase is None and policy.passphrase_file:
            passphrase = read_private(policy.passphrase_file).strip()
        return cls(directory, policy, passphrase)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def add_generation(self, generation: Generation, *, now: dt.datetime) -> None:
        """Take a root and an issuing certificate into the family; the issuer's key is kept already."""
        with self._database.transaction() as database:
            parts = (generation.root, generation.link, generation.issuer)
            blobs = (None if each is None else each.public_bytes(Encoding.DER) for each in parts)
            database.execute(
                "INSERT INTO generations VALUES (?, ?, ?, ?, ?)", (generation.no, *blobs, _ms(generation.active))
            )
            self._database.audit("generation", now, no=generation.no, active=generation.active.isoformat())

    def keep_issuer_key(self, no: int, key: EllipticCurvePrivateKey) -> None:
        """Write a generation's issuing key, encrypted if there is a passphrase. Raises `OSError`."""
        write_durably(self._issuer_key_path(no), private_pem(key, self._passphrase))

    def _issuer_key_path(self, no: int) -> Path:
        return self._directory / f"issuer-{no}.key"

    def generations(self, now: dt.datetime) -> list[Generation]:
        """Every generation that has not expired, oldest first."""
        with self._database.transaction() as database:
            rows = database.execute("SELECT no, root, link, issuer, active_ms FROM generations ORDER BY no").fetchall()
        family = [
            Generation(no, _load(root), None if link is None else _load(link), _load(issuer), _time(active_ms))
            for no, root, link, issuer, active_ms in rows
        ]
        return [each for each in family if each.issuer.not_valid_after_utc > now]

    def issue(
        self, profile: str, name: str, public: PublicKey, *, now: dt.datetime, hosts: Iterable[str] = ()
    ) -> x509.Certificate:
        """A certificate for one of the site's own servers; who calls this has the CA's key."""
        with self._database.transaction() as database:
            return self._issue(database, profile, name, public, now=now, by="site", hosts=hosts)

    def new_code(self, gateway: str, *, now: dt.datetime, valid: dt.timedelta) -> str:
        """A one-time code "GATEWAY:CODE", which lets whoever has it enrol as `gateway`; an older one dies.

        Raises `ConfigError` for an id that no gateway can have.
        """
        if not GATEWAY_ID.fullmatch(gateway) or gateway in RESERVED:
            raise ConfigError(f"{gateway!r}: no gateway can have this id; use [A-Za-z0-9_-], and not {RESERVED}")
        groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_CODE_GROUP)) for _ in range(_CODE_GROUPS))
        code = "-".join(groups)
        with self._database.transaction() as database:
            row = (gateway, _digest(gateway, code), _ms(now + valid))
            database.execute("INSERT OR REPLACE INTO codes VALUES (?, ?, ?, NULL, NULL)", row)
            self._database.audit("code", now, name=gateway, expires=(now + valid).isoformat(timespec="seconds"))
        return f"{gateway}:{code}"

    def enrol(self, csr: bytes, profile: str, *, gateway: str, code: str, now: dt.datetime) -> x509.Certificate:
        """Certify a key for whoever knows the one-time code.

        The code is used up by the first key of each profile; the same key gets the same certificate again, so that an
        enrolment that was cut can be finished.
        """
        public = _read_request(csr, profile, gateway)
        digest = key_digest(public)
        with self._database.transaction() as database:
            row = database.execute(
                f"SELECT hash, expires_ms, {profile}_key FROM codes WHERE gateway = ?",  # noqa: S608 - TLS or SIGNING
                (gateway,),
            ).fetchone()
            if row is None or not secrets.compare_digest(row[0], _digest(gateway, code)):
                raise EnrolmentError("this one-time code is not known")
            if row[1] <= _ms(now):
                raise EnrolmentError("this one-time code has expired")
            if row[2] is not None and row[2] != digest:
                raise EnrolmentError("this one-time code has been used")
            if row[2] is not None and (known := _newest(database, profile, gateway, digest, now)):
                return known
            database.execute(
                f"UPDATE codes SET {profile}_key = ? WHERE gateway = ?",  # noqa: S608 - TLS or SIGNING
                (digest, gateway),
            )
            return self._issue(database, profile, gateway, public, now=now, by="code")

    def reenrol(self, csr: bytes, profile: str, *, caller: bytes, now: dt.datetime) -> x509.Certificate:
        """Certify a key for the holder of a gateway's TLS certificate, whose chain and possession TLS has checked."""
        with self._database.transaction() as database:
            name = self._caller(database, caller, now)
            public = _read_request(csr, profile, name)
            return self._issue(database, profile, name, public, now=now, by="certificate")

    def _caller(self, database: sqlite3.Connection, certificate: bytes, now: dt.datetime) -> str:
        row = database.execute(
            "SELECT name, revoked_ms, not_after_ms FROM certificates WHERE certificate = ? AND profile = ?",
            (certificate, TLS),
        ).fetchone()
        if row is None:
            raise EnrolmentError("this certificate is no gateway's")
        name, revoked_ms, not_after_ms = row
        if revoked_ms is not None:
            raise EnrolmentError(f"the certificate of {name} is revoked")
        if _time(not_after_ms) + dt.timedelta(days=self._policy.grace_days) <= now:
            raise EnrolmentError(f"the certificate of {name} has expired; enrol with a new one-time code")
        return str(name)

    def renewal_window(
        self, issuer_key: bytes, serial: int, *, now: dt.datetime
    ) -> tuple[dt.datetime, dt.datetime] | None:
        """When a certificate should be renewed: from half its life on, or as soon as another issuer issues.

        `issuer_key` is the identifier of the key that issued it. None if it is not known, or revoked.
        """
        with self._database.transaction() as database:
            row = database.execute(
                "SELECT generation, issued_ms, not_after_ms FROM certificates WHERE serial = ? AND revoked_ms IS NULL",
                (f"{serial:x}",),
            ).fetchone()
            active = self._active(database, now)
        family = {each.no: each for each in self.generations(now)}
        if row is None or row[0] not in family or _key_identifier(family[row[0]].issuer) != issuer_key:
            return None
        issued, life = _time(row[1]), _time(row[2]) - _time(row[1])
        start, spread = issued + _RENEWAL_START * life, _RENEWAL_SPREAD * life
        if active.no != row[0]:
            start = min(start, max(issued, active.active))
        return start, start + spread

    def knows(self, name: str) -> bool:
        """Whether `name` has ever got a certificate, or has a one-time code."""
        with self._database.transaction() as database:
            (known,) = database.execute(
                "SELECT EXISTS (SELECT 1 FROM certificates WHERE name = ?1)"
                " OR EXISTS (SELECT 1 FROM codes WHERE gateway = ?1)",
                (name,),
            ).fetchone()
        return bool(known)

    def revoke(self, name: str, *, now: dt.datetime) -> list[str]:
        """Revoke every certificate of `name`, and its one-time code; returns their serial numbers."""
        with self._database.transaction() as database:
            if database.execute("DELETE FROM codes WHERE gateway = ?", (name,)).rowcount:
                self._database.audit("revoke-code", now, name=name)
            rows = database.execute(
                "UPDATE certificates SET revoked_ms = ? WHERE name = ? AND revoked_ms IS NULL RETURNING serial",
                (_ms(now), name),
            ).fetchall()
            serials = sorted(serial for (serial,) in rows)
            for serial in serials:
                self._database.audit("revoke", now, name=name, serial=serial)
        return serials

    def revocation_lists(self, *, now: dt.datetime) -> list[x509.CertificateRevocationList]:
        """A fresh list of every issuer that has not expired."""
        family = self.generations(now)
        until = now + dt.timedelta(days=self._policy.crl_days)
        with self._database.transaction() as database:
            (number,) = database.execute("UPDATE crl SET number = number + 1 RETURNING number").fetchone()
            revoked: dict[int, list[tuple[int, dt.datetime]]] = {}
            select = "SELECT generation, serial, revoked_ms FROM certificates WHERE revoked_ms IS NOT NULL"
            for no, serial, revoked_ms in database.execute(select):
                revoked.setdefault(no, []).append((int(serial, 16), _time(revoked_ms)))
            self._database.audit("crl", now, number=number, until=until.isoformat(timespec="seconds"))
        return [
            revocation_list(self._issuer(each), revoked.get(each.no, ()), number=number, now=now, until=until)
            for each in family
        ]

    def certificates(self) -> list[Issued]:
        """Every certificate ever issued, oldest first."""
        with self._database.transaction() as database:
            rows = database.execute(
                "SELECT serial, profile, name, issued_ms, not_after_ms, revoked_ms FROM certificates"
                " ORDER BY issued_ms, rowid"
            ).fetchall()
        return [
            Issued(serial, profile, name, _time(issued_ms), _time(until_ms), _time(revoked_ms) if revoked_ms else None)
            for serial, profile, name, issued_ms, until_ms, revoked_ms in rows
        ]

    def _issue(
        self,
        database: sqlite3.Connection,
        profile: str,
        name: str,
        public: PublicKey,
        *,
        now: dt.datetime,
        by: str,
        hosts: Iterable[str] = (),
    ) -> x509.Certificate:
        digest = key_digest(public)
        other = database.execute(
            "SELECT 1 FROM certificates WHERE key = ? AND (name != ? OR profile != ?)", (digest, name, profile)
        ).fetchone()
        if other is not None:
            raise EnrolmentError("this key serves another name or purpose already")
        generation = self._active(database, now)
        days = {TLS: self._policy.tls_days, SIGNING: self._policy.signer_days}.get(profile, profiles()[profile].days)
        certificate = certify(
            replace(profiles()[profile], days=days),
            name,
            public,
            issuer=self._issuer(generation),
            now=now,
            hosts=hosts,
        )
        serial = f"{certificate.serial_number:x}"
        until = certificate.not_valid_after_utc
        row = (serial, generation.no, profile, name, digest, _ms(until), _ms(now), None)
        database.execute(
            "INSERT INTO certificates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, certificate.public_bytes(Encoding.DER)),
        )
        self._database.audit(
            "issue", now, profile=profile, name=name, serial=serial, key=digest.hex(), until=until.isoformat(), by=by
        )
        return certificate

    def _active(self, database: sqlite3.Connection, now: dt.datetime) -> Generation:
        row = database.execute(
            "SELECT no, root, issuer, active_ms FROM generations WHERE active_ms <= ? ORDER BY no DESC LIMIT 1",
            (_ms(now),),
        ).fetchone()
        if row is None or _load(row[2]).not_valid_after_utc <= now:
            raise EnrolmentError("the CA's own certificate is not valid now; see: iomt-receiver ca rollover")
        return Generation(row[0], _load(row[1]), None, _load(row[2]), _time(row[3]))

    def _issuer(self, generation: Generation) -> Issuer:
        path = self._issuer_key_path(generation.no)
        encrypted = is_encrypted(path)
        if encrypted and self._passphrase is None:
            raise IdentityError(f"{path}: is encrypted; name ca.passphrase_file in site.toml, or ask at a terminal")
        key = load_private_key(path, self._passphrase if encrypted else None)
        if not isinstance(key, EllipticCurvePrivateKey) or key.public_key() != generation.issuer.public_key():
            raise IdentityError(f"{path}: is not the key of issuing certificate {generation.no}")
        return Issuer(generation.issuer, key)


def _key_identifier(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def key_digest(public: PublicKey) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo."""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _read_request(data: bytes, profile: str, name: str) -> PublicKey:
    """The key in a certificate request (PKCS 10, DER) that `name` made; what else it asks for is ignored."""
    try:
        request = x509.load_der_x509_csr(data)
        if not request.is_signature_valid:
            raise EnrolmentError("the request is not signed by its own key")
        public = request.public_key()
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise EnrolmentError("the request is not PKCS 10") from error
    try:
        asked = owner(request)
    except IdentityError as error:
        raise EnrolmentError(f"the request's {error}") from error
    if asked != name:
        raise EnrolmentError(f"the request is for {asked!r}, the caller is {name!r}")
    if not isinstance(public, _KEYS[profile]) or (
        isinstance(public, EllipticCurvePublicKey) and not isinstance(public.curve, SECP256R1)
    ):
        raise EnrolmentError(f"a certificate for {profile!r} needs a key of another kind")
    return public


def _newest(
    database: sqlite3.Connection, profile: str, name: str, digest: bytes, now: dt.datetime
) -> x509.Certificate | None:
    row = database.execute(
        "SELECT certificate FROM certificates WHERE profile = ? AND name = ? AND key = ? AND revoked_ms IS NULL"
        " AND not_after_ms > ? ORDER BY issued_ms DESC LIMIT 1",
        (profile, name, digest, _ms(now)),
    ).fetchone()
    return None if row is None else _load(row[0])


def _digest(gateway: str, code: str) -> bytes:
    """A code has 100 random bits: a plain hash keeps it."""
    return hashlib.sha256(f"{gateway}:{code.upper().replace('-', '')}".encode()).digest()


_load: Callable[[bytes], x509.Certificate] = x509.load_der_x509_certificate


def _ms(time: dt.datetime) -> int:
    return int(time.timestamp() * 1000)


def _time(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC)
