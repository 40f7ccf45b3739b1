"""The document of the wire format says what the code does."""

import hashlib
import hmac
import json
import re
from enum import IntEnum
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from gateway.envelope import keys, layout, receipt, records, vectors
from gateway.model import Extra, Quality, Reason, TimeSource

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "format.md").read_text(encoding="utf-8")


def table(heading: str) -> str:
    """The rows of the last table one of whose first cells is `heading`."""
    return TEXT[TEXT.rindex(f"| {heading} |") :].split("\n\n")[0]


@pytest.mark.parametrize(("heading", "codes"), [("quality", Quality), ("extra", Extra)])
def test_codes_are_documented_and_no_others(heading: str, codes: type[IntEnum]) -> None:
    assert set(map(int, re.findall(r"^\| (\d+) ", table(heading), re.MULTILINE))) == set(map(int, codes))


def test_reasons_are_documented_and_no_others() -> None:
    assert {int(bit) for bit in re.findall(r"\| (\d+) \|", table("reason"))} == {int(bit) for bit in Reason}


def test_time_sources_are_documented() -> None:
    row = next(line for line in table("extra").splitlines() if line.startswith("| 1 "))
    assert all(f"{int(source)} " in row for source in TimeSource)


@pytest.mark.parametrize(
    "said",
    [
        layout.BUNDLE_AAD.decode(),
        layout.RECEIPT_AAD.decode(),
        layout.KEY_LIST_AAD.decode(),
        '"iomt-gateway/1 part"',
        '"iomt-gateway/1 epoch" || secret',
        '"iomt-gateway/1 self" || gateway id',
        "iomt-gateway/1 message",
        "iomt-gateway/1 chain",
        layout.GATEWAY_ID.pattern,
        f"{layout.MAX_BUNDLE_BYTES:,} bytes",
        f"1 to {records.MAX_RECORDS:,} in a batch",
        f"0..{layout.MAX_STEPS - 1:,}",
        f"at most {receipt.MAX_RANGES}",
        str(keys.HPKE_XWING),
    ],
)
def test_labels_and_bounds_are_documented(said: str) -> None:
    assert said in TEXT


def extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), secret, "sha256")


def expand(key: bytes, info: bytes, size: int) -> bytes:
    return hmac.digest(key, info + b"\x01", "sha256")[:size]


def labeled_extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    return extract(salt, b"HPKE-v1" + suite + label + secret)


def labeled_expand(suite: bytes, key: bytes, label: bytes, info: bytes, size: int) -> bytes:
    return expand(key, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, size)


def decapsulated(alg: int, private: bytes, enc: bytes) -> tuple[bytes, bytes]:
    """KEM id and shared secret: RFC 9180, 4.1, or draft-connolly-cfrg-xwing-kem, 5.4."""
    if alg == 50:
        key, kem = x25519.X25519PrivateKey.from_private_bytes(private), b"\x00\x20"
        context = enc + key.public_key().public_bytes_raw()
        agreed = labeled_extract(
            b"KEM" + kem, b"", b"eae_prk", key.exchange(x25519.X25519PublicKey.from_public_bytes(enc))
        )
        return kem, labeled_expand(b"KEM" + kem, agreed, b"shared_secret", context, 32)
    seed = hashlib.shake_256(private).digest(96)
    curve = x25519.X25519PrivateKey.from_private_bytes(seed[64:])
    lattice_secret = mlkem.MLKEM768PrivateKey.from_seed_bytes(seed[:64]).decapsulate(enc[:1088])
    curve_secret = curve.exchange(x25519.X25519PublicKey.from_public_bytes(enc[1088:]))
    material = lattice_secret + curve_secret + enc[1088:] + curve.public_key().public_bytes_raw()
    return b"\x64\x7a", hashlib.sha3_256(material + b"\\.//^\\").digest()


@pytest.mark.parametrize("name", vectors.SUITES)
def test_keys_unwrap_with_hpke_written_from_its_rfc(name: str) -> None:
    content = json.loads((DOCS / "vectors" / name).read_text(encoding="utf-8"))
    alg, private = content["recipient"]["alg"], bytes.fromhex(content["recipient"]["private"])
    [epoch, *_] = cbor2.loads(bytes.fromhex(content["bundles"][0]))[1]
    _, _, ciphertext, [(protected, unprotected, wrapped)] = epoch.value
    kem, shared = decapsulated(alg, private, unprotected[-4])
    suite = b"HPKE" + kem + b"\x00\x01\x00\x03"
    info = cbor2.dumps(["HPKE Recipient", 24, protected, b""])
    context = (
        b"\x00" + labeled_extract(suite, b"", b"psk_id_hash", b"") + labeled_extract(suite, b"", b"info_hash", info)
    )
    secret = labeled_extract(suite, shared, b"secret", b"")
    key, nonce = (
        labeled_expand(suite, secret, *each) for each in ((b"key", context, 32), (b"base_nonce", context, 12))
    )
    content_key = ChaCha20Poly1305(key).decrypt(nonce, wrapped, b"")
    aad = cbor2.dumps(["Encrypt", epoch.value[0], part_aad(content)])
    assert ChaCha20Poly1305(content_key).decrypt(bytes(12), ciphertext, aad).hex() == content["plaintexts"][0][0]


def part_aad(content: dict[str, str]) -> bytes:
    _, gateway, chain, *_ = cbor2.loads(cbor2.loads(bytes.fromhex(content["bundles"][0]))[0].value[2])
    signer = hashlib.sha256(bytes.fromhex(content["signer_public"])).digest()[:16]
    return cbor2.dumps(["iomt-gateway/1 part", gateway, chain[0], signer])
