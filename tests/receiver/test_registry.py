"""Whose signatures count: learned from a certificate, pinned, announced, allowed, revoked; effective at once."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.cli import receiver as cli
from gateway.envelope.keys import VerifyKey
from gateway.envelope.layout import self_stream
from gateway.errors import IdentityError, SignerError
from gateway.identity.chain import pem
from gateway.identity.files import verify_key
from gateway.model import Event
from gateway.receiver.births import Births
from gateway.receiver.ca.authority import SIGNING, TLS, Authority
from gateway.receiver.ingest import verify
from gateway.receiver.plan import Last, NewPart, SeriesKey
from gateway.receiver.registry import Registry
from gateway.receiver.site import Site, publish
from tests.receiver.ca.conftest import DAY, GATEWAY, NOW, make_site, request, signing_key, tls_key
from tests.receiver.conftest import NOW_MS, Box


class Fleet:
    """A site's CA, its receiver's registry, and what was refused."""

    def __init__(self, site: Site, authority: Authority) -> None:
        self.site = site
        self.authority = authority
        self.path = site.receiver / "registry.json"
        self.registry = Registry(self.path)
        self.refused: list[str] = []
        self.births = Births(self.registry, site.receiver / "ca.crt", lambda _, error: self.refused.append(str(error)))

    def certificate(self, profile: str = SIGNING, gateway: str = GATEWAY) -> tuple[Ed25519PrivateKey, bytes]:
        """A signer and its chain in PEM, as a birth carries it."""
        key = signing_key() if profile == SIGNING else tls_key()
        code = self.authority.new_code(gateway, now=NOW, valid=DAY).partition(":")[2]
        leaf = self.authority.enrol(request(key, gateway), profile, gateway=gateway, code=code, now=NOW)
        [generation] = self.authority.generations(NOW)
        assert isinstance(key, Ed25519PrivateKey) or profile == TLS
        return key, pem([leaf, generation.issuer])  # type: ignore[return-value] # not used for TLS

    def birth(self, certificates: bytes, gateway: str = GATEWAY) -> list[str]:
        payload = json.dumps({"state": "online", "signer_cert": certificates.decode()}).encode()
        return self.births.take([(gateway, payload)], now=NOW)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    site = make_site(tmp_path / "site", now=NOW)
    with closing(site.authority()) as authority:
        yield Fleet(site, authority)


def public(key: Ed25519PrivateKey) -> VerifyKey:
    return verify_key(key.public_key())


def test_a_gateways_first_signer_is_pinned_from_its_certificate(fleet: Fleet) -> None:
    key, certificates = fleet.certificate()
    assert fleet.birth(certificates) == [GATEWAY]
    assert fleet.registry[public(key).kid] == (GATEWAY, public(key))
    assert fleet.birth(certificates) == []
    assert dict(Registry(fleet.path)) == dict(fleet.registry)


def test_a_second_signer_needs_a_word_that_it_is_right(fleet: Fleet) -> None:
    fleet.birth(fleet.certificate()[1])
    key, certificates = fleet.certificate()
    assert fleet.birth(certificates) == []
    assert f"iomt-receiver signers allow {GATEWAY} {public(key).kid.hex()}" in fleet.refused[0]
    Registry(fleet.path).allow(GATEWAY, public(key).kid)  # another process
    fleet.registry.refresh()
    assert fleet.births.take([], now=NOW) == [GATEWAY]
    assert public(key).kid in fleet.registry


def test_a_signer_that_the_one_before_announced_is_right(fleet: Fleet) -> None:
    fleet.birth(fleet.certificate()[1])
    key, certificates = fleet.certificate()
    assert fleet.birth(certificates) == []
    fleet.registry.announce(GATEWAY, public(key).public)
    assert fleet.birth(certificates) == [GATEWAY]


def test_what_another_gateway_announces_counts_for_itself_alone(fleet: Fleet) -> None:
    fleet.birth(fleet.certificate()[1])
    key, certificates = fleet.certificate()
    fleet.registry.announce("gw-002", public(key).public)
    assert fleet.birth(certificates) == []


@pytest.mark.parametrize("case", ["tls", "another's", "rogue", "expired", "nonsense"])
def test_a_certificate_that_is_no_signers_is_refused(fleet: Fleet, tmp_path: Path, case: str) -> None:
    now = NOW
    if case == "tls":
        certificates = fleet.certificate(TLS)[1]
    elif case == "another's":
        certificates = fleet.certificate(gateway="gw-002")[1]
    elif case == "rogue":
        site = make_site(tmp_path / "rogue", now=NOW)
        with closing(site.authority()) as authority:
            certificates = Fleet(site, authority).certificate()[1]
    elif case == "expired":
        certificates, now = fleet.certificate()[1], NOW + 7200 * DAY
    else:
        certificates = b"nonsense"
    payload = json.dumps({"signer_cert": certificates.decode()}).encode()
    assert fleet.births.take([(GATEWAY, payload)], now=now) == []
    assert len(fleet.refused) == 1
    assert not fleet.registry


@pytest.mark.parametrize("payload", [b"nonsense", b"[]", b'{"signer_cert": 1}', b'{"signer_cert": "\xc3\xa4"}'])
def test_a_status_that_makes_no_sense_is_refused(fleet: Fleet, payload: bytes) -> None:
    assert fleet.births.take([(GATEWAY, payload)], now=NOW) == []
    assert len(fleet.refused) == 1


def test_a_status_that_was_cleared_is_no_refusal(fleet: Fleet) -> None:
    assert fleet.births.take([(GATEWAY, b"")], now=NOW) == []
    assert not fleet.refused


def test_a_last_will_says_nothing_about_signers(fleet: Fleet) -> None:
    assert fleet.births.take([(GATEWAY, b'{"state": "offline"}')], now=NOW) == []
    assert not fleet.refused


def test_a_revoked_signer_counts_no_more_from_the_next_bundle_on(fleet: Fleet) -> None:
    box = Box(GATEWAY)
    key = VerifyKey(box.signer.alg, box.signer.public)
    entry = {"kid": key.kid.hex(), "gateway": GATEWAY, "alg": key.alg, "public": key.public.hex()}
    fleet.path.write_text(json.dumps({"signers": [entry]}))
    good = [box.tick(), box.tick(), box.tick()]
    fleet.registry.refresh()
    assert len(verify(good, fleet.registry, fleet.registry.limits())[0]) == 3
    other = Registry(fleet.path)  # another process
    assert other.revoke(GATEWAY, last=Last(box.writer.chain, 1)) == [key.kid]
    arrivals, refused = verify(good, fleet.registry, fleet.registry.limits())
    assert [each.bundle.no for each in arrivals] == [0, 1]
    assert [each.cause for each in refused] == ["signer"]
    other.revoke(GATEWAY)
    assert not verify(good, fleet.registry, fleet.registry.limits())[0]


def test_a_revoked_signer_is_not_learned_again(fleet: Fleet) -> None:
    _, certificates = fleet.certificate()
    fleet.birth(certificates)
    fleet.registry.revoke(GATEWAY)
    assert fleet.birth(certificates) == []
    assert "is revoked" in fleet.refused[0]


def test_a_revoked_certificate_shows_no_signer(fleet: Fleet) -> None:
    _, certificates = fleet.certificate()
    fleet.authority.revoke(GATEWAY, now=NOW)
    publish(fleet.site, fleet.authority, now=NOW)
    assert fleet.birth(certificates) == []
    assert "is revoked" in fleet.refused[0]


def test_after_a_revocation_the_next_signer_needs_an_operators_word(fleet: Fleet) -> None:
    fleet.birth(fleet.certificate()[1])
    fleet.registry.revoke(GATEWAY)
    key, certificates = fleet.certificate()
    assert fleet.birth(certificates) == []
    fleet.registry.allow(GATEWAY, public(key).kid)
    assert fleet.births.take([], now=NOW) == [GATEWAY]


def test_events_announce_only_in_the_gateways_own_stream(fleet: Fleet) -> None:
    fleet.birth(fleet.certificate()[1])
    key, certificates = fleet.certificate()
    fleet.birth(certificates)
    event = Event(NOW_MS, "signer", (public(key).public,))
    patients = NewPart(SeriesKey(GATEWAY, b"\x01" * 16, b"c" * 16), 0, 1, (event,))
    assert fleet.births.listen([patients], now=NOW) == []
    own = NewPart(SeriesKey(GATEWAY, self_stream(GATEWAY), b"c" * 16), 0, 1, (event,))
    assert fleet.births.listen([own], now=NOW) == [GATEWAY]
    bad = NewPart(SeriesKey(GATEWAY, self_stream(GATEWAY), b"c" * 16), 0, 1, (Event(NOW_MS, "signer", (b"x",)),))
    assert fleet.births.listen([bad], now=NOW) == []


def test_a_registry_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    with pytest.raises(IdentityError, match=r"registry\.json: cannot be read"):
        Registry(path)
    path.write_text("[]")
    with pytest.raises(IdentityError, match="is not a registry"):
        Registry(path)


def test_an_operator_lists_allows_and_revokes(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    key, certificates = fleet.certificate()
    fleet.birth(certificates)

    def run(*arguments: str) -> str:
        parsed = cli.parser().parse_args(["signers", *arguments, "--config", str(fleet.site.root / "receiver.toml")])
        assert parsed.command(parsed) == 0
        return capsys.readouterr().out

    assert json.loads(run("list", "--json"))["kid"] == public(key).kid.hex()
    run("revoke", GATEWAY, "--kid", public(key).kid.hex(), "--last", f"{'00' * 16}:7")
    assert "revoked" in run("list")
    fleet.registry.refresh()
    assert fleet.registry.limits() == {public(key).kid: Last(bytes(16), 7)}
    run("allow", GATEWAY, "11" * 16)
    for wrong in (["allow", GATEWAY, "xyz"], ["revoke", "gw-9"], ["revoke", GATEWAY, "--last", "1"]):
        with pytest.raises(Exception, match=r"32 hexadecimal digits|no such signer|CHAIN:NO"):
            run(*wrong)


def test_after_a_revocation_certificate_and_signer_are_dead(fleet: Fleet) -> None:
    _, certificates = fleet.certificate()
    fleet.birth(certificates)
    Registry(fleet.path).revoke(GATEWAY)
    fleet.authority.revoke(GATEWAY, now=NOW)
    publish(fleet.site, fleet.authority, now=NOW)
    fleet.registry.refresh()
    assert not fleet.registry
    assert all(each.revoked for each in fleet.authority.certificates() if each.name == GATEWAY)
    leaf = x509.load_pem_x509_certificates(certificates)[0]
    crl = x509.load_pem_x509_crl((fleet.site.broker / "ca.crl").read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None
    with pytest.raises(SignerError, match="is revoked"):
        fleet.registry.learn(GATEWAY, certificates, [fleet.authority.generations(NOW)[0].root], now=NOW)
