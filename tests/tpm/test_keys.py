"""A key in a TPM: made there, used there, nowhere else, and ended there."""

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.envelope.keys import ES256, Es256Signer, signer_for
from gateway.errors import IdentityError
from gateway.identity import tpm
from gateway.identity.files import verify_key
from gateway.identity.rung import end_keys, make_signing_key, make_tls_key, open_key, refuse_leftovers
from tests.identity.conftest import Box

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture
def made(box: Box) -> Box:
    identity = box.config.identity
    assert make_tls_key(identity)
    assert make_signing_key(identity, identity.signing_key)
    return box


def opened(box: Box) -> tpm.TpmKey:
    key = open_key(box.config.identity, box.config.identity.signing_key)
    assert isinstance(key, tpm.TpmKey)
    return key


def test_bundles_are_signed_with_es256_and_s_in_the_lower_half(made: Box) -> None:
    signer = signer_for(opened(made))
    assert isinstance(signer, Es256Signer)
    assert signer.alg == ES256
    key = verify_key(opened(made).public_key())
    assert key.kid == signer.kid
    for number in range(16):  # half of what an honest TPM signs has s in the upper half
        message = b"%d" % number
        signature = signer.sign(message)
        assert int.from_bytes(signature[32:], "big") <= ORDER // 2
        key.verify(signature, message)


def test_a_key_is_made_once_and_is_the_same_again(made: Box) -> None:
    identity = made.config.identity
    first = opened(made).public_key()
    assert not make_signing_key(identity, identity.signing_key)
    assert opened(made).public_key() == first
    assert open_key(identity, identity.tls_key).public_key() != first


def test_nothing_private_can_be_had(made: Box) -> None:
    key = opened(made)
    with pytest.raises(IdentityError, match="never leaves its TPM"):
        key.private_numbers()
    with pytest.raises(IdentityError, match="signs with SHA-256 alone"):
        key.sign(b"", ec.ECDSA(hashes.SHA512()))
    assert made.config.identity.signing_key.stat().st_mode & 0o777 == 0o600


def test_ended_keys_are_dead_whoever_kept_a_copy_of_the_disk(made: Box, tmp_path: Path) -> None:
    identity = made.config.identity
    copies = [Path(shutil.copy(path, tmp_path)) for path in (identity.tls_key, identity.signing_key)]
    for copy in copies:
        tpm.TpmKey(copy.read_bytes(), identity.tpm, copy)
    end_keys(identity)
    for copy in copies:
        with pytest.raises(IdentityError, match=r"the TPM .* refuses"):
            tpm.TpmKey(copy.read_bytes(), identity.tpm, copy)
    end_keys(identity)  # again, after a cut
    for path in (identity.tls_key, identity.signing_key):
        path.unlink()
    make_signing_key(identity, identity.signing_key)
    opened(made).sign(b"", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(IdentityError, match=r"the TPM .* refuses"):
        tpm.TpmKey(copies[0].read_bytes(), identity.tpm, copies[0])


def test_what_is_no_key_of_a_tpm_is_refused_by_name(made: Box) -> None:
    path = made.config.identity.signing_key
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole.replace(b"MI", b"!!", 1)):
        path.write_bytes(content)
        with pytest.raises(IdentityError, match=str(path)):
            opened(made)
    path.write_bytes(whole)
    path.chmod(0o640)
    with pytest.raises(IdentityError, match="chmod 600"):
        opened(made)


def test_another_object_of_the_tpm_is_not_touched(made: Box) -> None:
    from tpm2_pytss.tsskey import TSSPrivKey

    identity = made.config.identity
    parsed = TSSPrivKey.from_pem(identity.signing_key.read_bytes())
    foreign = TSSPrivKey(parsed.private, parsed.public, parent=0x81000001).to_pem()
    with pytest.raises(IdentityError, match="it is not destroyed"):
        tpm.destroy(foreign, identity.tpm, identity.signing_key)


@pytest.mark.parametrize("elsewhere", ["device:/dev/null/none", "nonsense", "swtpm:host=127.0.0.1,port=1"])
def test_a_tpm_that_is_not_there_is_named(made: Box, elsewhere: str) -> None:
    identity = made.config.identity.model_copy(update={"tpm": elsewhere})
    with pytest.raises(IdentityError, match=rf"sign\.tpm: the TPM {elsewhere} refuses"):
        open_key(identity, identity.signing_key)


def test_a_key_in_plain_text_beside_those_of_the_tpm_is_refused_with_what_mends_it(made: Box) -> None:
    refuse_leftovers(made.config)
    plain = made.config.identity.tls_key.with_name("tls.key")
    plain.write_bytes(b"secret")
    with pytest.raises(IdentityError, match=f"mend it with: shred -u {plain}"):
        refuse_leftovers(made.config)
