"""A site's directory: made by one command, kept valid by the CA's server.

In it lie `site.toml` and `receiver.toml`; `offline` with the keys of root and fleet root, to be locked away; `ca` with
issuing key, database, audit log and the enrolment server's certificates; `broker` with configuration, certificate and
CRL; `receiver` with keys, key list, registry of signers and database.
"""

import datetime as dt
import getpass
import json
import os
import pwd
import shutil
import signal
from contextlib import closing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.config import load
from gateway.durable import give_to_owner, write_durably, write_once
from gateway.envelope.keys import signer_for
from gateway.errors import ConfigError, IdentityError
from gateway.identity.chain import p256_key, pem
from gateway.identity.files import is_encrypted, load_private_key, load_verify_key, private_pem, verify_key
from gateway.identity.site import SIGNER, SiteFile, encode_site
from gateway.receiver.ca.authority import Authority, Generation
from gateway.receiver.ca.issue import Issuer, certify, new_key, profiles, self_sign
from gateway.receiver.config import SiteConfig
from gateway.receiver.fleet import new_recipient_key, sign_key_list
from gateway.receiver.sqlite import SqliteStore

_SERVERS = {
    # profile: directory; the common name is the profile's, which no gateway can have.
    "broker": "broker",
    "enrolment": "ca",
    SIGNER: "ca",
    "receiver": "receiver",
}
_RENEW_BEFORE = dt.timedelta(days=132)
"""A third of the life of a server's certificate."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where everything of one site lies."""

    root: Path

    @property
    def offline(self) -> Path:
        """The keys that daily work does not need."""
        return self.root / "offline"

    @property
    def ca(self) -> Path:
        """The small CA."""
        return self.root / "ca"

    @property
    def broker(self) -> Path:
        """What mosquitto needs."""
        return self.root / "broker"

    @property
    def receiver(self) -> Path:
        """What the receiver needs."""
        return self.root / "receiver"

    def config(self) -> SiteConfig:
        """What `site.toml` says. Raises `ConfigError`."""
        return load(self.root / "site.toml", SiteConfig)

    def authority(self, passphrase: bytes | None = None) -> Authority:
        """The site's CA; a passphrase that a person typed, if its keys need one. Raises `ConfigError`."""
        return Authority.open(self.ca, self.config().ca, passphrase)

    @property
    def wants_passphrase(self) -> bool:
        """Whether a person has to type the passphrase of the issuing keys. Raises `ConfigError`, `IdentityError`."""
        return not self.config().ca.passphrase_file and any(map(is_encrypted, self.ca.glob("issuer-*.key")))


def create(
    root: Path,
    host: str,
    *,
    broker_port: int,
    enrolment_port: int,
    passphrase: bytes | None,
    with_receiver: bool,
    now: dt.datetime,
    ca_passphrase: bytes | None = None,
    ca_passphrase_file: Path | None = None,
) -> Site:
    """Make a site in the directory `root`, which must be new: all of it, or nothing. Starts nothing.

    `host` is the name or address by which gateways reach it. `passphrase` encrypts the offline keys, `ca_passphrase`
    the issuing key, and the CA will find it in `ca_passphrase_file`, or ask a person. Raises `ConfigError`.
    """
    root = root.absolute()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigError(f"{root}: exists already, and is kept; name a new directory")
    partial = Site(root.with_name(root.name + ".partial"))
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial.root, ignore_errors=True)
        for directory in (partial.offline, partial.ca, partial.broker / "state"):
            directory.mkdir(mode=0o700, parents=True)
        partial.root.chmod(0o755)
        urls = {"URL": f"https://{_bracketed(host)}:{enrolment_port}", "ENDPOINT": f"{_bracketed(host)}:{broker_port}"}
        values = {**urls, "EST_PORT": enrolment_port, "BROKER_PORT": broker_port}
        _render("site.toml", partial.root / "site.toml", values)
        if ca_passphrase_file is not None:
            _name_passphrase(partial.root / "site.toml", ca_passphrase_file)
        _write_broker(partial, root, broker_port)
        if with_receiver:
            partial.receiver.mkdir(mode=0o700)
            _render("receiver-site.toml", partial.root / "receiver.toml", values)
            _write_receiver(partial, passphrase, now)
        with closing(partial.authority(ca_passphrase)) as authority:
            new_generation(partial, authority, passphrase=passphrase, now=now, active=now)
            maintain(partial, authority, now=now)
        _give_to_services(partial)
        if root.exists():
            root.rmdir()
        partial.root.rename(root)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written: {error.strerror}") from error
    return Site(root)


def new_generation(
    site: Site, authority: Authority, *, passphrase: bytes | None, now: dt.datetime, active: dt.datetime
) -> Generation:
    """Make the next root and issuing certificate; if there is a root already, its key certifies the new one.

    Raises `IdentityError` if that key is not where it belongs, or the passphrase is not its own.
    """
    before = authority.generations(now)
    no = 1 + max((each.no for each in before), default=0)
    old_path, new_path = site.offline / "root.key", site.offline / f"root-{no}.key"
    old_key = load_private_key(old_path, passphrase) if before else None
    root_key, issuer_key = (_p256(name) for name in ("root", "issuer"))
    root = self_sign(profiles()["root"], f"iomt-gateway root {no}", root_key, now=now)
    link = None
    if isinstance(old_key, EllipticCurvePrivateKey):
        parent = Issuer(before[-1].root, old_key)
        link = certify(profiles()["link"], f"iomt-gateway root {no}", root_key.public_key(), issuer=parent, now=now)
    issuer = certify(profiles()["issuer"], f"iomt-gateway issuer {no}", issuer_key.public_key(), issuer=root, now=now)
    write_durably(new_path, private_pem(root_key, passphrase))
    authority.keep_issuer_key(no, issuer_key)
    generation = Generation(no, root.certificate, link, issuer, active)
    authority.add_generation(generation, now=now)
    new_path.replace(old_path)
    return generation


def maintain(site: Site, authority: Authority, *, now: dt.datetime) -> None:
    """Renew the servers' certificates in time, write what each part of the site trusts, and fresh CRLs.

    To be called daily; mosquitto is told. Raises `StoreError`, `EnrolmentError`, OSError.
    """
    host = urlsplit(site.config().site.url).hostname or ""
    for profile, name in _SERVERS.items():
        directory = site.root / name
        if directory.exists():
            _renew(directory, profile, authority, host=host, now=now)
    publish(site, authority, now=now)


def publish(site: Site, authority: Authority, *, now: dt.datetime) -> None:
    """Write trusted CA certificates and fresh CRLs to every part of the site, and tell the broker. Raises OSError."""
    family = authority.generations(now)
    links = [each.link for each in family if each.link is not None]
    trusted = pem([*(each.root for each in family), *(each.issuer for each in family), *links])
    lists = b"".join(each.public_bytes(Encoding.PEM) for each in authority.revocation_lists(now=now))
    for directory in filter(Path.exists, (site.ca, site.broker, site.receiver)):
        _replace(directory / "ca.crt", trusted)
        _replace(directory / "ca.crl", lists)
    tell_broker(site.config())


def tell_broker(config: SiteConfig) -> None:
    """Let mosquitto read certificates and CRL again (SIGHUP); one that does not run reads them when it starts."""
    path = config.broker.pid_file
    if path is None:
        return
    try:
        os.kill(int(path.read_text(encoding="ascii")), signal.SIGHUP)
    except (FileNotFoundError, ProcessLookupError):
        return
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: the broker could not be told to read its CRL again: {error}") from error


def site_file(site: Site, authority: Authority, *, now: dt.datetime) -> bytes:
    """What a gateway of this site is told at enrolment. Raises `IdentityError`."""
    key_list = site.receiver / "keys.cbor"
    try:
        data = key_list.read_bytes()
        chain = x509.load_pem_x509_certificates((site.ca / f"{SIGNER}.crt").read_bytes())
    except OSError as error:
        raise IdentityError(f"{error.filename}: cannot be read: {error.strerror}") from error
    content = SiteFile(
        time_ms=int(now.timestamp() * 1000),
        endpoints=site.config().site.endpoints,
        roots=tuple(each.root for each in authority.generations(now)),
        fleet_root=load_verify_key(site.receiver / "fleet-root.pub"),
        key_list=data,
    )
    return encode_site(content, signer_for(load_private_key(site.ca / f"{SIGNER}.key")), chain)


def _renew(directory: Path, profile: str, authority: Authority, *, host: str, now: dt.datetime) -> None:
    """See that a server's certificate is valid for long enough, and issued by the present issuer."""
    path = directory / f"{profile}.crt"
    issuer = [each for each in authority.generations(now) if each.active <= now][-1]
    if path.exists():
        old = x509.load_pem_x509_certificates(path.read_bytes())[0]
        if old.not_valid_after_utc - now > _RENEW_BEFORE and old.issuer == issuer.issuer.subject:
            return
        key = p256_key(old)
    else:
        fresh = _p256(profile)
        write_once(directory / f"{profile}.key", private_pem(fresh))
        key = fresh.public_key()
    hosts = (host, "localhost") if profiles()[profile].usage == "server" else ()
    leaf = authority.issue(profile, profile, key, now=now, hosts=dict.fromkeys(hosts))
    links = () if issuer.link is None else (issuer.link,)
    _replace(path, pem([leaf, issuer.issuer, *links]))


def _write_broker(partial: Site, root: Path, port: int) -> None:
    """Mosquitto's configuration, with the paths that will be."""
    final = Site(root).broker
    values = {
        "LISTEN": port,
        "USER": _account("mosquitto"),
        "PKI": final,
        "ACL": final / "acl",
        "STATE": final / "state",
    }
    _render("mosquitto/mosquitto.conf", partial.broker / "mosquitto.conf", values)
    _render("mosquitto/acl", partial.broker / "acl", {})


def _write_receiver(site: Site, passphrase: bytes | None, now: dt.datetime) -> None:
    fleet_root, receipt = (new_key(profiles()["signing"]) for _ in range(2))
    write_once(site.offline / "fleet-root.key", private_pem(fleet_root, passphrase))
    public = fleet_root.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_once(site.receiver / "fleet-root.pub", public, 0o644)
    write_once(site.receiver / "receipt.key", private_pem(receipt))
    recipient, line = new_recipient_key()
    write_once(site.receiver / "recipient-1.key", line)
    key_list = sign_key_list(
        1,
        (recipient.recipient,),
        (verify_key(receipt.public_key()),),
        signer_for(fleet_root),
        now_ms=int(now.timestamp() * 1000),
    )
    write_once(site.receiver / "keys.cbor", key_list)
    write_once(site.receiver / "registry.json", b'{"signers": []}\n')
    SqliteStore.open(site.receiver / "state").close()


def _account(name: str) -> str:
    """Who a service becomes: the account `name` where root installs a site and there is one, else whoever installs."""
    me = getpass.getuser()
    return name if me == "root" and any(each.pw_name == name for each in pwd.getpwall()) else me


def _give_to_services(site: Site) -> None:
    """Let the accounts that mosquitto and the receiver run as read their files, where those are others."""
    receiver = (site.root / "receiver.toml", site.receiver, *site.receiver.rglob("*")) if site.receiver.exists() else ()
    for name, paths in {"mosquitto": (site.broker, *site.broker.rglob("*")), "iomt-receiver": receiver}.items():
        if (user := _account(name)) != getpass.getuser():
            for path in paths:
                shutil.chown(path, user, user)


def _render(name: str, path: Path, values: dict[str, object]) -> None:
    text = resources.files("config").joinpath(name).read_text(encoding="utf-8")
    write_once(path, (Template(text).substitute(values) if values else text).encode())


def _name_passphrase(path: Path, passphrase_file: Path) -> None:
    named = f"passphrase_file = {json.dumps(str(passphrase_file.absolute()))}"
    write_durably(path, path.read_text(encoding="utf-8").replace('# passphrase_file = ""', named).encode())


def _replace(path: Path, content: bytes) -> None:
    """Replace a file that others may read, whose owner it keeps."""
    write_durably(path, content)
    path.chmod(0o644)
    give_to_owner(path)


def _p256(profile: str) -> EllipticCurvePrivateKey:
    key = new_key(profiles()[profile])
    assert isinstance(key, EllipticCurvePrivateKey)  # noqa: S101 - profiles.toml says so
    return key


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
