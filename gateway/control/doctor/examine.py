"""The whole examination of a gateway's box: every fact gathered, every finding made."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from pydantic import TypeAdapter

from gateway.ble.inventory import Inventory
from gateway.config import GatewayConfig, load
from gateway.control import api
from gateway.control.client import Client
from gateway.control.doctor import box, hardware, papers, probe, radio, trust, way
from gateway.control.doctor.findings import Finding, fail, ok, skip
from gateway.control.doctor.software import examine_software
from gateway.errors import ConfigError, ControlError, IdentityError, NoAnswerError
from gateway.health.metrics import limits_by_code
from gateway.identity.files import load_certificate
from gateway.identity.tls import gateway_context

_STATUS = TypeAdapter(api.Status)
_AFTER_ENROLMENT = ("gateway", "disk", "card", "wearables", "certificates", "key list", "permissions", "brokers")


async def examine(path: Path, snapshot: Path | None, now: dt.datetime) -> list[Finding]:
    """Every finding, of the gateway with the configuration at `path`.

    Raises `ConfigError` if `snapshot`, of vulnerabilities, cannot be read.
    """
    if _missing(path):
        return [_unenrolled(f"{path}: is not there"), *await _without(None), *examine_software(snapshot, now)]
    try:
        config = load(path, GatewayConfig)
        limits_by_code(config.quality.bounds)
    except ConfigError as error:
        found = [fail("configuration", str(error), f"iomt-gateway config check {path}")]
        config = None
    else:
        found = [ok("configuration", str(path))]
    if config is None:
        found.append(box.clock(hardware.clock_facts("auto", before_certificate=False)))
        found += radio.radio(await hardware.radio_facts("hci0"))
    elif all(map(_missing, _given(config))):
        found.append(_unenrolled(f"nothing that a site gives is in {config.identity.ca.parent}"))
        found += await _without(config)
    else:
        found += await _box(config, now)
        found.append(_wearables(config))
        found += _trust(path, config, now)
        found += _ways(config)
    return [*found, *examine_software(snapshot, now)]


def _given(config: GatewayConfig) -> tuple[Path, ...]:
    """What enrolment leaves on the box."""
    identity = config.identity
    return identity.ca, identity.tls_cert, identity.signing_cert, identity.fleet_root, identity.key_list


def _missing(path: Path) -> bool:
    """It is not there; what cannot be looked at may be."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _unenrolled(evidence: str) -> Finding:
    fix = "iomt-gateway enrol --url URL --otp GATEWAY:CODE; on the site `iomt-receiver ca otp DIR GATEWAY` prints it"
    return fail("enrolment", f"this box was never enrolled: {evidence}", fix)


async def _without(config: GatewayConfig | None) -> list[Finding]:
    """What there is to examine of a box that no site knows."""
    believe, adapter = (config.clock.believe, config.ble.adapter) if config else ("auto", "hci0")
    return [
        box.clock(hardware.clock_facts(believe, before_certificate=False)),
        *radio.radio(await hardware.radio_facts(adapter)),
        *(skip(check, "this box was never enrolled") for check in _AFTER_ENROLMENT),
    ]


async def _box(config: GatewayConfig, now: dt.datetime) -> list[Finding]:
    status, refusal = await _status(config)
    found = [*box.daemon(status, refusal)]
    found.append(box.clock(hardware.clock_facts(config.clock.believe, before_certificate=_too_early(config, now))))
    place = config.gateway.state_dir
    try:
        found.append(box.disk(hardware.disk_facts(config)))
        found.append(box.card(hardware.card_facts(place, status.card_years if status else None)))
    except FileNotFoundError:
        found.append(fail("disk", f"{place}: is not there", "iomt-gateway enrol; or it is made at the first start"))
    except OSError as error:
        found.append(fail("disk", f"{place}: {error.strerror}", "run as the service's user, or as root"))
    return [*found, *radio.radio(await hardware.radio_facts(config.ble.adapter))]


async def _status(config: GatewayConfig) -> tuple[api.Status | None, str]:
    """What the daemon says, or why it does not."""
    try:
        return await Client(config).get("/v1/status", _STATUS), ""
    except (ControlError, NoAnswerError) as error:
        return None, str(error).partition(";")[0]  # the way out is the finding's own


def _too_early(config: GatewayConfig, now: dt.datetime) -> bool:
    try:
        own = x509.load_pem_x509_certificates(load_certificate(config.identity.tls_cert))[0]
    except IdentityError:
        return False
    return now < own.not_valid_before_utc


def _trust(path: Path, config: GatewayConfig, now: dt.datetime) -> Iterator[Finding]:
    for facts in papers.certificates(config):
        yield trust.certificate(facts, now)
    crl = config.identity.ca.with_suffix(".crl")
    yield trust.revocation(str(crl), papers.revocation_until(crl), now)
    yield papers.key_list_finding(config, now)
    try:
        yield from trust.files(list(papers.files(path, config)))
    except OSError as error:
        yield fail("permissions", f"{error.filename}: {error.strerror}", "run as the service's user, or as root")


def _wearables(config: GatewayConfig) -> Finding:
    path = config.gateway.state_dir / "devices.json"
    try:
        known = len(Inventory.load(path).devices)
    except ConfigError as error:
        return fail("wearables", str(error), "run as root; if it is damaged put it back from a backup: docs/backup.md")
    return ok("wearables", f"{known} known")


def _ways(config: GatewayConfig) -> Iterator[Finding]:
    """To every broker, and to where certificates are renewed. Without a usable identity no farther than TCP."""
    identity = config.identity
    try:
        tls = gateway_context(identity)
    except (IdentityError, OSError) as error:
        tls = None
        yield fail("identity", str(error), "docs/identity.md#where-keys-live")
    for endpoint in config.uplink.endpoints:
        yield from way.judge(f"broker {endpoint}", probe.probe(endpoint, tls))
    if identity.enrolment:
        server = urlsplit(identity.enrolment)
        yield from way.judge("renewal", probe.probe(f"{server.hostname}:{server.port or 443}", tls))
