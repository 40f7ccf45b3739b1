"""Five years of two gateways by a virtual clock: what happens to their identity costs no reading and no visit.

Real keys, certificates, lists, bundles, ingest and database; broker and network are the rules that they go by.
"""

import datetime as dt
import json
import os
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.envelope.keys import signer_for
from gateway.envelope.layout import self_stream
from gateway.envelope.seal import ChainWriter
from gateway.errors import EnrolmentError, IdentityError
from gateway.identity.chain import pem, trusted_roots, verify_chain
from gateway.identity.files import PrivateKey, load_private_key, verify_key
from gateway.identity.keyring import KeyRing
from gateway.identity.renewal import Renewal, Validity
from gateway.model import Batch, Event, Record
from gateway.receiver.births import Births
from gateway.receiver.ca.authority import SIGNING, TLS, Authority
from gateway.receiver.config import CaSection
from gateway.receiver.fleet import Fleet, RecipientKeys
from gateway.receiver.intake import Intake
from gateway.receiver.plan import Message
from gateway.receiver.registry import Registry
from gateway.receiver.site import Site, maintain, new_generation
from gateway.receiver.sqlite import SqliteStore
from tests.receiver.ca.conftest import DAY, make_site, request, signing_key, tls_key

BIRTH = dt.datetime(2027, 1, 1, 12, tzinfo=dt.UTC)
YEARS = 5
EVERY = 2
"""Days from one reading, and connection, to the next."""
IN_1970 = range(200, 204)
ROTATIONS = (400, 1100)
ROLLOVER = 700
CHANGE_OF_SIGNER = 900
OUTAGE = range(1300, 1340)
REVOKED = 1500
STREAM = b"\x07" * 16


def ms(time: dt.datetime) -> int:
    return int(time.timestamp() * 1000)


@dataclass
class Cloud:
    """CA, broker's rules and receiver of one site."""

    site: Site
    authority: Authority
    fleet: Fleet
    registry: Registry
    births: Births
    keys: RecipientKeys
    intake: Intake
    refused: list[str]

    def broker_accepts(self, chain: list[x509.Certificate], now: dt.datetime) -> bool:
        """What mosquitto does with the files that the CA published."""
        trusted = x509.load_pem_x509_certificates((self.site.broker / "ca.crt").read_bytes())
        lists = (self.site.broker / "ca.crl").read_bytes().split(b"-----END X509 CRL-----\n")
        crls = [x509.load_pem_x509_crl(each + b"-----END X509 CRL-----\n") for each in lists if each.strip()]
        assert all(now < (crl.next_update_utc or now) for crl in crls), "an expired list locks everybody out"
        if any(crl.get_revoked_certificate_by_serial_number(chain[0].serial_number) for crl in crls):
            return False
        roots = [each for each in trusted if each.issuer == each.subject]
        try:
            verify_chain(chain[0], roots=roots, issuers=chain[1:], usage="client", at=now)
        except IdentityError:
            return False
        return True

    def receive(self, gateway: str, payloads: list[bytes], certificates: bytes, now: dt.datetime) -> list[bytes]:
        """Take what a gateway sends; returns what no receipt covers, which it will send again."""
        birth = json.dumps({"signer_cert": certificates.decode()}).encode()
        self.births.take([(gateway, birth)], now=now)
        self.keys.refresh(every_s=0)
        taken = self.intake.take([Message(gateway, each) for each in payloads], now_ms=ms(now))
        self.births.listen(taken.plan.parts, now=now)
        self.births.take([], now=now)
        return [each.message.payload for each in taken.plan.quarantined]


@dataclass
class Gateway:
    """One box: its keys, certificates, chain and what waits on its disk."""

    name: str
    cloud: Cloud
    directory: Path
    tls: PrivateKey = field(default_factory=tls_key)
    signing: PrivateKey = field(default_factory=signing_key)
    codes: int = 0
    sealed: int = 0
    renewals: int = 0
    backlog: list[bytes] = field(default_factory=list)

    def enrol(self, now: dt.datetime, mono_s: float) -> None:
        """What a person does with a one-time code."""
        self.codes += 1
        authority = self.cloud.authority
        code = authority.new_code(self.name, now=now, valid=DAY).partition(":")[2]
        leaf = authority.enrol(request(self.tls, self.name), TLS, gateway=self.name, code=code, now=now)
        signer = authority.enrol(request(self.signing, self.name), SIGNING, gateway=self.name, code=code, now=now)
        self.roots = [authority.generations(now)[0].root]
        self._take(leaf, now)
        self.signer_chain = pem([signer, authority.generations(now)[-1].issuer])
        self.renewal = Renewal(self.validity, mono_s=mono_s, uniform=random.Random(self.name).uniform)
        self.renewal.renewed(self.validity, mono_s=mono_s)
        self.ring = KeyRing.open(
            shipped=self.cloud.site.receiver / "keys.cbor",
            kept=self.directory / f"{self.name}.cbor",
            root=self.cloud.site.receiver / "fleet-root.pub",
            allow_classical=False,
        )
        self._begin_chain(None)

    def enrol_again(self, now: dt.datetime, mono_s: float) -> None:
        """The same with a new code, beside a gateway that goes on sealing: its keys and its chain stay."""
        self.codes += 1
        authority = self.cloud.authority
        code = authority.new_code(self.name, now=now, valid=DAY).partition(":")[2]
        leaf = authority.enrol(request(self.tls, self.name), TLS, gateway=self.name, code=code, now=now)
        self._take(leaf, now)
        self.renewal.renewed(self.validity, mono_s=mono_s)

    def _take(self, leaf: x509.Certificate, now: dt.datetime) -> None:
        family = self.cloud.authority.generations(now)
        offered = [each.root for each in family] + [each.link for each in family if each.link]
        self.roots = trusted_roots(self.roots, offered)
        self.chain = [leaf, *(each.issuer for each in family), *(each.link for each in family if each.link)]

    @property
    def validity(self) -> Validity:
        leaf = self.chain[0]
        return Validity(leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp())

    def _begin_chain(self, predecessor: object) -> None:
        self.writer = ChainWriter(
            gateway=self.name,
            chain=os.urandom(16),
            signer=signer_for(self.signing),
            recipients=self.ring.recipients,
            predecessor=predecessor,  # type: ignore[arg-type] # the last link
            random=os.urandom,
        )

    def seal(self, now: dt.datetime) -> None:
        record = Record(device="C0:00:00:00:00:01", metric=1, mantissa=self.sealed, exponent=0, time_ms=ms(now))
        self._seal(Batch(STREAM, (record,)), now)
        self.sealed += 1

    def _seal(self, batch: Batch, now: dt.datetime) -> None:
        bundle, rest = self.writer.seal([batch], now_ms=ms(now))
        assert not rest
        self.backlog.append(bundle.data)

    def connect(self, now: dt.datetime, wall: dt.datetime, mono_s: float) -> bool:
        """Renew if it is time, then deliver; whether the broker let it in."""
        self._believe_servers(now, wall)
        if self.renewal.due(wall_s=wall.timestamp(), mono_s=mono_s):
            try:
                caller = self.chain[0].public_bytes(Encoding.DER)
                leaf = self.cloud.authority.reenrol(request(self.tls, self.name), TLS, caller=caller, now=now)
                self._take(leaf, now)
                self.renewal.renewed(self.validity, mono_s=mono_s)
                self.renewals += 1
            except EnrolmentError:
                self.renewal.failed(mono_s=mono_s)
        if not self.cloud.broker_accepts(self.chain, now):
            return False
        if self.ring.offer(
            (self.cloud.site.receiver / "keys.cbor").read_bytes(), now_ms=ms(wall) if wall == now else None
        ):
            self.writer.recipients = self.ring.recipients
        self.backlog = self.cloud.receive(self.name, self.backlog, self.signer_chain, now)
        return True

    def _believe_servers(self, now: dt.datetime, wall: dt.datetime) -> None:
        """The broker's certificate, by this box's roots and clock; raises `IdentityError`."""
        broker, *issuers = x509.load_pem_x509_certificates((self.cloud.site.broker / "broker.crt").read_bytes())
        at = now if wall >= self.chain[0].not_valid_before_utc else broker.not_valid_before_utc
        verify_chain(broker, roots=self.roots, issuers=issuers, usage="server", at=at)

    def change_signer(self, now: dt.datetime) -> None:
        """As `identity rotate-signer` and a restart do it."""
        following = signing_key()
        caller = self.chain[0].public_bytes(Encoding.DER)
        leaf = self.cloud.authority.reenrol(request(following, self.name), SIGNING, caller=caller, now=now)
        public = verify_key(following.public_key()).public
        self._seal(Batch(self_stream(self.name), (Event(ms(now), "signer", (public,)),)), now)
        self.signing = following
        self.signer_chain = pem([leaf, self.cloud.authority.generations(now)[-1].issuer])
        self._begin_chain(self.writer.head)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with made(tmp_path, CaSection(grace_days=60)) as cloud:
        yield cloud


@contextmanager
def made(tmp_path: Path, policy: CaSection) -> Iterator[Cloud]:
    site = make_site(tmp_path / "site", now=BIRTH)
    with (
        closing(Authority.open(site.ca, policy)) as authority,
        closing(SqliteStore.open(site.receiver / "state")) as store,
    ):
        registry = Registry(site.receiver / "registry.json")
        keys = RecipientKeys([site.receiver / "recipient-*.key"])
        refused: list[str] = []
        intake = Intake(
            store=store,
            registry=registry,
            recipient_keys=keys,
            signer=signer_for(load_private_key(site.receiver / "receipt.key")),
            parked_limit=100,
            parked_per_gateway=100,
            limits=registry.limits,
        )
        births = Births(registry, site.receiver / "ca.crt", lambda _, error: refused.append(str(error)))
        fleet = Fleet(site.receiver, site.offline)
        yield Cloud(site, authority, fleet, registry, births, keys, intake, refused)


def stored(cloud: Cloud, gateway: str) -> list[int]:
    database = cloud.intake.store._database  # type: ignore[attr-defined] # SQLite
    rows = database.execute("SELECT mantissa FROM readings WHERE gateway = ? ORDER BY mantissa", (gateway,))
    return [mantissa for (mantissa,) in rows]


def happen(cloud: Cloud, box: Gateway, day: int, now: dt.datetime, mono_s: float) -> None:
    """What life has in store on that day."""
    if day % 20 == 0:
        maintain(cloud.site, cloud.authority, now=now)
    if day == ROLLOVER:
        new_generation(cloud.site, cloud.authority, passphrase=None, now=now, active=now + 31 * DAY)
    elif day in ROTATIONS:
        cloud.fleet.rotate(passphrase=None, now_ms=ms(now))
    elif day == IN_1970.start:  # a boot: what was known of the certificate's age is gone
        box.renewal = Renewal(box.validity, mono_s=mono_s, uniform=random.Random(day).uniform)
    elif day == CHANGE_OF_SIGNER:
        box.change_signer(now)
    elif day == REVOKED:
        cloud.registry.revoke("gw-002")
        cloud.authority.revoke("gw-002", now=now)
        maintain(cloud.site, cloud.authority, now=now)


def test_nothing_is_lost_and_nobody_has_to_come(cloud: Cloud, tmp_path: Path) -> None:
    box, stolen = (Gateway(name, cloud, tmp_path) for name in ("gw-001", "gw-002"))
    for each in (box, stolen):
        each.enrol(BIRTH, 0.0)
    for day in range(0, YEARS * 365, EVERY):
        now, mono_s = BIRTH + day * DAY, day * 86_400.0
        wall = now if day not in IN_1970 else dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        happen(cloud, box, day, now, mono_s)
        for each in (box, stolen):
            each.seal(now)
            if day not in OUTAGE:
                let_in = each.connect(now, wall, mono_s)
                assert let_in == (each is box or day < REVOKED), f"day {day}"
    assert stored(cloud, "gw-001") == list(range(box.sealed))
    assert stored(cloud, "gw-002") == list(range(REVOKED // EVERY))
    assert (box.codes, stolen.codes) == (1, 1)
    assert box.renewals > YEARS * 365 / 10
    assert len(cloud.fleet.files()) == 1 + len(ROTATIONS)
    assert sum(gateway == "gw-001" for gateway, _ in cloud.registry.values()) == 2
    [latest] = [each for each in cloud.authority.generations(now) if each.no == 2]
    assert box.chain[0].issuer == latest.issuer.subject
    assert not cloud.intake.store._database.execute("SELECT * FROM forks").fetchall()  # type: ignore[attr-defined]
    assert sum("gw-001" in reason for reason in cloud.refused) == 1, "until the announcement, which came with it"


def test_without_grace_an_outage_of_40_days_costs_one_more_code_and_no_reading(tmp_path: Path) -> None:
    with made(tmp_path, CaSection()) as cloud:
        box = Gateway("gw-001", cloud, tmp_path)
        box.enrol(BIRTH, 0.0)
        for day in range(0, 120, EVERY):
            now, mono_s = BIRTH + day * DAY, day * 86_400.0
            if day % 20 == 0:
                maintain(cloud.site, cloud.authority, now=now)
            box.seal(now)
            if day not in range(40, 80) and not box.connect(now, now, mono_s):
                assert day == 80
                box.enrol_again(now, mono_s)
                assert box.connect(now, now, mono_s)
        assert stored(cloud, "gw-001") == list(range(box.sealed))
        assert box.codes == 2
