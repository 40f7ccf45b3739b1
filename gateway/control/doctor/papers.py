"""Gathers what lies in files: certificates, lists, keys and who may read them. Reads alone."""

import datetime as dt
import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from cryptography import x509

from gateway.config import GatewayConfig
from gateway.control.doctor.findings import Finding, fail
from gateway.control.doctor.trust import CertificateFacts, FileFacts, key_list
from gateway.errors import IdentityError
from gateway.identity.files import load_certificate, load_owner, read_private
from gateway.identity.keyring import KeyRing
from gateway.identity.rung import refuse_leftovers
from gateway.identity.tls import crl_expiry_s

_WARN_DAYS: Final = 30.0
_WARN_TLS_DAYS: Final = 3.0
"""The gateway renews a certificate of 14 days after 8."""
_LARGEST_KEY_BYTES: Final = 64 << 10


def certificates(config: GatewayConfig) -> Iterator[CertificateFacts]:
    """The box's own two, the CA's, and that of the metrics."""
    identity, gateway = config.identity, config.gateway.id
    anew = "iomt-gateway enrol; docs/identity.md"
    yield certificate_facts("TLS certificate", identity.tls_cert, _WARN_TLS_DAYS, anew, owner=gateway)
    yield certificate_facts("signing certificate", identity.signing_cert, _WARN_DAYS, anew, owner=gateway)
    ca = certificate_facts("site's CA", identity.ca, _WARN_DAYS, "on the site: iomt-receiver ca rollover DIR")
    yield ca if ca.until else replace(ca, fix=anew)
    if config.metrics.tls:
        _, path, _ = config.metrics.tls
        yield certificate_facts("metrics' certificate", path, _WARN_DAYS, "issue another one: metrics.tls_cert")


def certificate_facts(
    check: str, path: Path, warn_days: float, fix: str, *, owner: str | None = None
) -> CertificateFacts:
    """A certificate in a file, which must be in the name of `owner` if there is one."""
    try:
        content = load_certificate(path) if owner is None else load_owner(path, owner)
    except IdentityError as error:
        return CertificateFacts(check, str(path), None, str(error), warn_days, fix)
    until = max(each.not_valid_after_utc for each in x509.load_pem_x509_certificates(content)[:1])
    return CertificateFacts(check, str(path), until, "", warn_days, fix)


def revocation_until(path: Path) -> dt.datetime | None:
    """When the first of the lists in a file ends; None: there is none."""
    expiry_s = crl_expiry_s(path)
    return dt.datetime.fromtimestamp(expiry_s, dt.UTC) if expiry_s else None


def key_list_finding(config: GatewayConfig, now: dt.datetime) -> Finding:
    """The list in use, judged."""
    identity = config.identity
    try:
        current = KeyRing.open(
            shipped=identity.key_list,
            kept=config.gateway.state_dir / "keys.cbor",
            root=identity.fleet_root,
            allow_classical=config.envelope.allow_classical,
        ).current
    except IdentityError as error:
        return fail("key list", str(error), "iomt-gateway enrol; docs/identity.md")
    until = dt.datetime.fromtimestamp(current.not_after_ms / 1000, dt.UTC)
    return key_list(current.serial, len(current.recipients), until, now)


def files(path: Path, config: GatewayConfig) -> Iterator[FileFacts]:
    """Secrets that others may use, and secrets that should not be there. Raises `OSError`."""
    identity, state_dir = config.identity, config.gateway.state_dir
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield FileFacts(str(path), "others may change it", f"chmod go-w {shlex.quote(str(path))}")
    if state_dir.stat().st_mode & 0o077:
        yield FileFacts(str(state_dir), "others may look into it", f"chmod 700 {shlex.quote(str(state_dir))}")
    keys = [identity.tls_key, identity.signing_key]
    if config.metrics.tls:
        keys.append(config.metrics.tls[2])
    for key in keys:
        yield secret(key)
    try:
        refuse_leftovers(config)
    except IdentityError as error:
        yield _told(error)
    known = {each.resolve() for each in keys} | {each.with_name(f"{each.name}.next").resolve() for each in keys}
    for left in _private_keys(state_dir):
        if left.resolve() not in known:
            yield FileFacts(str(left), "a private key that nothing uses", f"shred -u {shlex.quote(str(left))}")


def secret(path: Path) -> FileFacts:
    """Whether a secret can be read by its owner alone."""
    try:
        read_private(path)
    except IdentityError as error:
        return _told(error)
    return FileFacts(str(path), "", "")


def _told(error: IdentityError) -> FileFacts:
    """An error that names the file, what is wrong, and mostly the command that mends it."""
    said, _, mend = str(error).partition("; mend it with: ")
    path, _, wrong = said.partition(": ")
    return FileFacts(path, wrong, mend or "run as the service's user, or as root; else iomt-gateway enrol")


def _private_keys(place: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(place):
        for each in (Path(directory, name) for name in names):
            if (
                each.is_file()
                and each.stat().st_size <= _LARGEST_KEY_BYTES
                and b"PRIVATE KEY-----" in each.read_bytes()
            ):
                yield each
