"""The examination of a receiver's machine: facts gathered and judged, whether the receiver runs or not."""

import datetime as dt
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.config import load
from gateway.control.doctor import box, hardware, papers, probe, trust, way
from gateway.control.doctor.findings import Finding, fail, ok, warn
from gateway.control.doctor.software import examine_software
from gateway.errors import ConfigError, IdentityError, StoreError
from gateway.identity.files import load_registry
from gateway.identity.tls import client_context
from gateway.receiver.config import ReceiverConfig
from gateway.receiver.fleet import Fleet, RecipientKeys
from gateway.receiver.store import INCARNATION, read_incarnation
from gateway.receiver.stores import open_archive

_ROOM_BYTES: Final = 1 << 30
_WARN_DAYS: Final = 30.0


def examine(path: Path, snapshot: Path | None, now: dt.datetime) -> list[Finding]:
    """Every finding, of the receiver with the configuration at `path`. Raises `ConfigError` for a bad `snapshot`."""
    found = [box.clock(hardware.clock_facts("auto", before_certificate=False))]
    try:
        config = load(path, ReceiverConfig)
    except ConfigError as error:
        fix = f"iomt-gateway config check {path}" if path.exists() else "iomt-receiver init DIR; docs/install.md"
        found.insert(0, fail("configuration", str(error), fix))
    else:
        found.insert(0, ok("configuration", str(path)))
        found += _store(config)
        found += _trust(config, now)
        found += _ways(config)
    return [*found, *examine_software(snapshot, now)]


def _store(config: ReceiverConfig) -> Iterator[Finding]:
    place = config.receiver.state_dir
    kind = "SQLite" if config.store.url == "sqlite" else "PostgreSQL"
    try:
        with open_archive(config) as archive:
            yield ok("store", f"{kind} answers: {archive.bundles()} bundles, {archive.parked()} parked")
    except StoreError as error:
        yield fail("store", str(error), "docs/operations.md#storefails; a new one is made at the first start")
    try:
        yield ok("incarnation", f"{read_incarnation(place)}")
    except StoreError as error:
        missing = not (place / INCARNATION).exists()
        fix = "copy it from another worker; after a restore: iomt-receiver restored; a new store makes it"
        yield warn("incarnation", str(error), fix) if missing else fail("incarnation", str(error), fix)
    try:
        free_bytes = shutil.disk_usage(place).free
    except OSError as error:
        yield fail("disk", f"{place}: {error.strerror}", "make it, for the receiver's user alone")
        return
    said = f"{place}: {free_bytes / _ROOM_BYTES:.2f} GiB free"
    yield ok("disk", said) if free_bytes > _ROOM_BYTES else warn("disk", said, "make room: commits will be refused")


def _trust(config: ReceiverConfig, now: dt.datetime) -> Iterator[Finding]:
    renew = "iomt-receiver ca serve renews it; then restart the receiver"
    for check, path in (("TLS certificate", config.tls.cert), ("site's CA", config.tls.ca)):
        yield trust.certificate(papers.certificate_facts(check, path, _WARN_DAYS, renew), now)
    crl = config.tls.ca.with_suffix(".crl")
    until = papers.revocation_until(crl)
    if until is not None and until <= now:
        yield fail("revocation list", f"{crl}: ended; mosquitto refuses everybody", "iomt-receiver ca crl DIR")
    else:
        yield trust.revocation(str(crl), until, now)
    yield from trust.files([papers.secret(path) for path in (config.tls.key, config.receiver.receipt_key)])
    try:
        signers = load_registry(config.receiver.registry)
        yield ok("signers", f"{len(signers)} registered")
        yield _keys(config, now)
    except (IdentityError, OSError) as error:
        yield fail("key list", str(error), "docs/identity.md#a-site")


def _keys(config: ReceiverConfig, now: dt.datetime) -> Finding:
    """Whether this receiver opens what gateways are told to seal. Raises `IdentityError`, OSError."""
    own = RecipientKeys(config.receiver.recipient_keys)
    listed = Fleet(config.receiver.key_list.parent, Path(os.devnull)).key_list()
    missing = [each.kid.hex() for each in listed.recipients if each.kid not in own]
    if missing:
        said = f"gateways seal to {', '.join(missing)}, which nothing here opens"
        return fail("key list", said, "copy that recipient key here; docs/incident.md#lost-receiver-key")
    until = dt.datetime.fromtimestamp(listed.not_after_ms / 1000, dt.UTC)
    return trust.key_list(listed.serial, len(listed.recipients), until, now)


def _ways(config: ReceiverConfig) -> Iterator[Finding]:
    """To every broker; to NATS, which does not begin with TLS, as far as TCP."""
    try:
        tls = client_context(config.tls.ca, config.tls.cert, config.tls.key)
    except (IdentityError, OSError) as error:
        tls = None
        yield fail("identity", str(error), "docs/identity.md#a-site")
    for endpoint in config.broker.endpoints:
        yield from way.judge(f"broker {endpoint}", probe.probe(endpoint, tls))
    for server in config.jetstream.servers:
        yield from way.judge(f"NATS {server}", probe.probe(server, None))
