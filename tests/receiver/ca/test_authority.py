"""Who gets a certificate, who gets another one, and whose is dead: by a clock that the test moves."""

import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.errors import ConfigError, EnrolmentError, IdentityError
from gateway.identity.chain import owner, verify_chain
from gateway.receiver.ca.authority import SIGNING, TLS, Authority
from gateway.receiver.ca.database import AUDIT_LOG
from gateway.receiver.config import CaSection
from gateway.receiver.site import Site, maintain, new_generation
from tests.receiver.ca.conftest import DAY, GATEWAY, NOW, der, make_site, request, signing_key, tls_key


def code(authority: Authority, gateway: str = GATEWAY) -> str:
    return authority.new_code(gateway, now=NOW, valid=DAY).removeprefix(f"{gateway}:")


def enrolled(authority: Authority, gateway: str = GATEWAY) -> x509.Certificate:
    csr = request(tls_key(), gateway)
    return authority.enrol(csr, TLS, gateway=gateway, code=code(authority, gateway), now=NOW)


def test_a_code_gets_one_certificate_for_tls_and_one_for_signing(authority: Authority) -> None:
    secret = code(authority)
    tls = authority.enrol(request(tls_key()), TLS, gateway=GATEWAY, code=secret, now=NOW)
    signing = authority.enrol(request(signing_key()), SIGNING, gateway=GATEWAY, code=secret, now=NOW)
    assert (owner(tls), owner(signing)) == (GATEWAY, GATEWAY)
    assert tls.not_valid_after_utc == NOW + 14 * DAY
    assert signing.not_valid_after_utc > NOW + 3000 * DAY
    usage = tls.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    [generation] = authority.generations(NOW)
    for leaf, purpose in ((tls, "client"), (signing, "sign")):
        verify_chain(leaf, roots=[generation.root], issuers=[generation.issuer], usage=purpose, at=NOW)


def test_a_code_burns_with_its_first_key_which_alone_may_come_again(authority: Authority) -> None:
    secret, key = code(authority), tls_key()
    first = authority.enrol(request(key), TLS, gateway=GATEWAY, code=secret, now=NOW)
    again = authority.enrol(request(key), TLS, gateway=GATEWAY, code=secret, now=NOW + DAY / 2)
    assert again == first
    with pytest.raises(EnrolmentError, match="has been used"):
        authority.enrol(request(tls_key()), TLS, gateway=GATEWAY, code=secret, now=NOW)


def test_a_code_is_typed_in_any_case_with_or_without_dashes(authority: Authority) -> None:
    typed = code(authority).lower().replace("-", "")
    assert authority.enrol(request(tls_key()), TLS, gateway=GATEWAY, code=typed, now=NOW)


def test_a_code_expires(authority: Authority) -> None:
    secret = code(authority)
    with pytest.raises(EnrolmentError, match="expired"):
        authority.enrol(request(tls_key()), TLS, gateway=GATEWAY, code=secret, now=NOW + DAY)


@pytest.mark.parametrize("wrong", ["", "00000-00000-00000-00000"])
def test_a_wrong_code_gets_nothing(authority: Authority, wrong: str) -> None:
    code(authority)
    with pytest.raises(EnrolmentError, match="not known"):
        authority.enrol(request(tls_key()), TLS, gateway=GATEWAY, code=wrong, now=NOW)


def test_a_code_is_good_for_its_own_gateway_alone(authority: Authority) -> None:
    secret = code(authority)
    code(authority, "gw-002")
    with pytest.raises(EnrolmentError, match="not known"):
        authority.enrol(request(tls_key(), "gw-002"), TLS, gateway="gw-002", code=secret, now=NOW)


def test_a_new_code_kills_the_one_before(authority: Authority) -> None:
    old = code(authority)
    code(authority)
    with pytest.raises(EnrolmentError, match="not known"):
        authority.enrol(request(tls_key()), TLS, gateway=GATEWAY, code=old, now=NOW)


@pytest.mark.parametrize("name", ["", "gw 1", "gw/1", "gw#", "+", "x" * 65, "ä", "receiver", "broker", "site"])
def test_no_code_for_an_id_that_no_gateway_can_have(authority: Authority, name: str) -> None:
    with pytest.raises(ConfigError, match="no gateway can have this id"):
        authority.new_code(name, now=NOW, valid=DAY)


@pytest.mark.parametrize("names", [("gw-002",), ("gw-001", "gw-002"), ("receiver",)])
def test_a_request_must_be_for_its_caller(authority: Authority, names: tuple[str, ...]) -> None:
    with pytest.raises(EnrolmentError, match="the request"):
        authority.enrol(request(tls_key(), *names), TLS, gateway=GATEWAY, code=code(authority), now=NOW)


@pytest.mark.parametrize("spoil", [lambda _: b"nonsense", lambda csr: csr[:-1] + bytes([csr[-1] ^ 1]), lambda _: b""])
def test_what_is_no_request_or_not_signed_by_its_key_is_refused(authority: Authority, spoil: type) -> None:
    with pytest.raises(EnrolmentError):
        authority.enrol(spoil(request(tls_key())), TLS, gateway=GATEWAY, code=code(authority), now=NOW)


def test_a_request_cannot_ask_for_more_than_its_profile(authority: Authority) -> None:
    key = generate_private_key(SECP384R1())
    with pytest.raises(EnrolmentError, match="another kind"):
        authority.enrol(request(key), TLS, gateway=GATEWAY, code=code(authority), now=NOW)
    with pytest.raises(EnrolmentError, match="another kind"):
        authority.enrol(request(signing_key()), TLS, gateway=GATEWAY, code=code(authority), now=NOW)
    greedy = tls_key()
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, GATEWAY)]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=3), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("broker")]), critical=False)
        .sign(greedy, SHA256())  # type: ignore[arg-type] # a P-256 key
    )
    granted = authority.enrol(
        csr.public_bytes(Encoding.DER),
        TLS,
        gateway=GATEWAY,
        code=code(authority),
        now=NOW,
    )
    assert not granted.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(x509.ExtensionNotFound):
        granted.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_one_key_serves_one_name_and_one_purpose(authority: Authority) -> None:
    key = tls_key()
    authority.enrol(request(key), TLS, gateway=GATEWAY, code=code(authority), now=NOW)
    with pytest.raises(EnrolmentError, match="serves another"):
        authority.enrol(request(key), SIGNING, gateway=GATEWAY, code=code(authority), now=NOW)
    with pytest.raises(EnrolmentError, match="serves another"):
        authority.enrol(request(key, "gw-2"), TLS, gateway="gw-2", code=code(authority, "gw-2"), now=NOW)


def test_the_holder_of_a_certificate_gets_the_next_one(authority: Authority) -> None:
    first = enrolled(authority)
    second = authority.reenrol(request(tls_key()), TLS, caller=der(first), now=NOW + 7 * DAY)
    assert second.not_valid_after_utc == NOW + 21 * DAY
    assert owner(authority.reenrol(request(signing_key()), SIGNING, caller=der(second), now=NOW + 8 * DAY)) == GATEWAY


def test_nobody_renews_for_another_name(authority: Authority) -> None:
    first = enrolled(authority)
    with pytest.raises(EnrolmentError, match="the caller is 'gw-001'"):
        authority.reenrol(request(tls_key(), "gw-002"), TLS, caller=der(first), now=NOW)


def test_a_certificate_that_is_no_gateways_renews_nothing(site: Site, authority: Authority) -> None:
    for path in (site.receiver / "receiver.crt", site.ca / "site.crt"):
        caller = x509.load_pem_x509_certificates(path.read_bytes())[0]
        with pytest.raises(EnrolmentError, match="no gateway's"):
            authority.reenrol(request(tls_key(), owner(caller)), TLS, caller=der(caller), now=NOW)


def test_a_signers_certificate_is_no_key_to_the_house(authority: Authority) -> None:
    signing = authority.enrol(request(signing_key()), SIGNING, gateway=GATEWAY, code=code(authority), now=NOW)
    with pytest.raises(EnrolmentError, match="no gateway's"):
        authority.reenrol(request(tls_key()), TLS, caller=der(signing), now=NOW)


def test_an_expired_certificate_renews_only_within_the_grace(site: Site, authority: Authority) -> None:
    first = enrolled(authority)
    with pytest.raises(EnrolmentError, match="has expired; enrol with a new one-time code"):
        authority.reenrol(request(tls_key()), TLS, caller=der(first), now=NOW + 14 * DAY)
    lenient = Authority.open(site.ca, CaSection(grace_days=60))
    assert lenient.reenrol(request(tls_key()), TLS, caller=der(first), now=NOW + 70 * DAY)
    with pytest.raises(EnrolmentError, match="expired"):
        lenient.reenrol(request(tls_key()), TLS, caller=der(first), now=NOW + 80 * DAY)
    lenient.close()


def test_after_a_revocation_nothing_of_that_gateway_works_and_others_do(authority: Authority) -> None:
    first, other = enrolled(authority), enrolled(authority, "gw-002")
    unused = code(authority)
    assert len(authority.revoke(GATEWAY, now=NOW)) == 1
    with pytest.raises(EnrolmentError, match="revoked"):
        authority.reenrol(request(tls_key()), TLS, caller=der(first), now=NOW)
    with pytest.raises(EnrolmentError, match="not known"):
        authority.enrol(request(tls_key()), TLS, gateway=GATEWAY, code=unused, now=NOW)
    assert authority.reenrol(request(tls_key(), "gw-002"), TLS, caller=der(other), now=NOW)
    [crl] = authority.revocation_lists(now=NOW)
    [generation] = authority.generations(NOW)
    assert [each.serial_number for each in crl] == [first.serial_number]
    assert crl.is_signature_valid(generation.issuer.public_key())  # type: ignore[arg-type] # P-256
    assert crl.next_update_utc == NOW + 30 * DAY


def test_an_operators_new_code_lets_a_revoked_gateway_in_again(authority: Authority) -> None:
    enrolled(authority)
    authority.revoke(GATEWAY, now=NOW)
    assert enrolled(authority)


def test_every_issue_and_revocation_is_one_line_of_the_audit_log(site: Site, authority: Authority) -> None:
    first = enrolled(authority)
    authority.reenrol(request(tls_key()), TLS, caller=der(first), now=NOW)
    authority.revoke(GATEWAY, now=NOW)
    lines = [json.loads(line) for line in (site.ca / AUDIT_LOG).read_text().splitlines()]
    ours = [(line["act"], line.get("by")) for line in lines if line.get("name") == GATEWAY]
    ends = ("revoke-code", "revoke", "revoke")
    assert ours == [("code", None), ("issue", "code"), ("issue", "certificate"), *[(act, None) for act in ends]]
    issued = {line["serial"] for line in lines if line["act"] == "issue"}
    assert issued == {each.serial for each in authority.certificates()}


def test_nothing_is_issued_that_the_audit_log_cannot_tell(site: Site, authority: Authority) -> None:
    secret = code(authority)
    log = site.ca / AUDIT_LOG
    log.rename(log.with_suffix(".full"))
    log.mkdir()
    before = authority.certificates()
    with pytest.raises(Exception, match=AUDIT_LOG):
        authority.enrol(request(tls_key()), TLS, gateway=GATEWAY, code=secret, now=NOW)
    assert authority.certificates() == before


def test_a_rollover_is_made_known_before_it_issues_and_the_old_root_vouches_for_the_new(
    site: Site, authority: Authority
) -> None:
    new_generation(site, authority, passphrase=None, now=NOW, active=NOW + 31 * DAY)
    old, new = authority.generations(NOW)
    assert new.link is not None
    new.link.verify_directly_issued_by(old.root)
    assert new.link.public_key() == new.root.public_key()
    assert enrolled(authority).issuer == old.issuer.subject
    later = NOW + 31 * DAY
    secret = authority.new_code("gw-9", now=later, valid=DAY).removeprefix("gw-9:")
    leaf = authority.enrol(request(tls_key(), "gw-9"), TLS, gateway="gw-9", code=secret, now=later)
    for root in (new.root, old.root):
        verify_chain(leaf, roots=[root], issuers=[new.issuer, new.link], usage="client", at=later)
    maintain(site, authority, now=later)
    broker = x509.load_pem_x509_certificates((site.broker / "broker.crt").read_bytes())
    assert broker[0].issuer == new.issuer.subject


def test_a_rollover_needs_the_key_that_lies_offline_and_its_passphrase(tmp_path: Path) -> None:
    site = make_site(tmp_path / "locked", now=NOW, passphrase=b"correct horse")
    authority = site.authority()
    with pytest.raises(IdentityError, match=r"root\.key: is not a private key under this passphrase"):
        new_generation(site, authority, passphrase=b"wrong", now=NOW, active=NOW)
    new_generation(site, authority, passphrase=b"correct horse", now=NOW, active=NOW)
    (site.offline / "root.key").unlink()
    with pytest.raises(IdentityError, match=r"root\.key: cannot be read"):
        new_generation(site, authority, passphrase=b"correct horse", now=NOW, active=NOW)
    authority.close()


def test_servers_certificates_and_lists_are_renewed_in_time(site: Site, authority: Authority) -> None:
    path = site.broker / "broker.crt"
    before = path.read_bytes()
    maintain(site, authority, now=NOW + 200 * DAY)
    assert path.read_bytes() == before
    maintain(site, authority, now=NOW + 300 * DAY)
    renewed = x509.load_pem_x509_certificates(path.read_bytes())[0]
    assert renewed.not_valid_after_utc > NOW + 690 * DAY
    crl = x509.load_pem_x509_crl((site.broker / "ca.crl").read_bytes())
    assert crl.next_update_utc == NOW + 330 * DAY
