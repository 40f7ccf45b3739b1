import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.envelope import cbor, cose, layout, ratchet, reference, seal, vectors
from gateway.envelope.open import parse
from gateway.errors import SealError
from gateway.model import SealedBundle

SHIPPED = Path(__file__).parents[2] / "docs" / "vectors"
NAMES = list(vectors.SUITES)

Change = Callable[[dict[str, Any]], None]


def document(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SHIPPED / name).read_text(encoding="utf-8"))
    return content


def flipped(text: str, place: int) -> str:
    data = bytearray.fromhex(text)
    data[place] ^= 1
    return data.hex()


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_vectors_are_right(name: str) -> None:
    vectors.check(SHIPPED / name)


@pytest.mark.parametrize("name", NAMES)
def test_new_vectors_are_right(name: str, tmp_path: Path) -> None:
    vectors.write(tmp_path / name)
    vectors.check(tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_the_vectors_show_every_rule_that_a_reader_has_to_follow(name: str) -> None:
    bundles = [parse(bytes.fromhex(each)) for each in document(name)["bundles"]]
    chains = list(dict.fromkeys(bundle.chain for bundle in bundles))
    last = [bundle for bundle in bundles if bundle.chain == chains[0]][-1]
    parts = [part for bundle in bundles for part in bundle.parts]
    epochs = [epoch for bundle in bundles for epoch in bundle.epochs]
    assert len(chains) == 2
    assert [bundle.predecessor for bundle in bundles if bundle.no == 0] == [None, (chains[0], last.no)]
    assert len({epoch.stream for epoch in epochs}) == 3
    assert len(epochs) > len({(bundle.chain, epoch.stream) for bundle in bundles for epoch in bundle.epochs})
    assert {part.kind for part in parts} == {1, 2}
    assert {part.count for part in parts} >= {1, 16}
    assert max(part.step for part in parts) == 2
    assert max(len(bundle.parts) for bundle in bundles) == 3


def test_the_file_has_exactly_the_documented_members() -> None:
    members = {"signer_public", "signer_alg", "recipient", "bundles", "plaintexts", "receiver_public", "receipts"}
    for name in NAMES:
        assert set(document(name)) == members
        assert set(document(name)["recipient"]) == {"alg", "kid", "private"}


CHANGES: dict[str, Change] = {
    "another signer": lambda d: d.update(signer_public=flipped(d["signer_public"], 0)),
    "another algorithm": lambda d: d.update(signer_alg=-35),
    "another receiver": lambda d: d.update(receiver_public=flipped(d["receiver_public"], 0)),
    "another recipient": lambda d: d["recipient"].update(private=flipped(d["recipient"]["private"], 0)),
    "another plaintext": lambda d: d["plaintexts"][1].__setitem__(2, flipped(d["plaintexts"][1][2], 5)),
    "a part less": lambda d: d["plaintexts"][1].pop(),
    "a bundle less": lambda d: (d["bundles"].pop(), d["plaintexts"].pop()),
    "a bundle twice": lambda d: (
        d["bundles"].insert(1, d["bundles"][0]),
        d["plaintexts"].insert(1, d["plaintexts"][0]),
    ),
    "a receipt less": lambda d: d["receipts"].pop(),
    "a changed receipt": lambda d: d["receipts"].__setitem__(0, flipped(d["receipts"][0], 60)),
    "no bundles": lambda d: d.pop("bundles"),
    "no text": lambda d: d.update(bundles=[None]),
    "no hex": lambda d: d.update(bundles=["xyz"]),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_file_is_noticed(name: str, change: Change, tmp_path: Path) -> None:
    content = document(name)
    change(content)
    (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(SealError, match=name):
        vectors.check(tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("module", "constant", "other"),
    [
        (ratchet, "_MESSAGE", b"iomt-gateway/1 messages\x01"),
        (ratchet, "_CHAIN", b"iomt-gateway/1 chains\x01"),
        (layout, "NO_HASH", b"\x01" * 32),
        (layout, "BUNDLE_AAD", b"iomt-gateway/1 bundles"),
        (layout, "sha256", lambda data: hashlib.sha256(data + b"!").digest()),
        (cose, "_NONCE", b"\x01" * 12),
        (seal, "self_stream", lambda _: bytes(16)),
    ],
)
def test_code_that_no_longer_speaks_version_1_is_noticed(
    name: str, module: ModuleType, constant: str, other: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, constant, other)
    monkeypatch.setattr(vectors, "self_stream", seal.self_stream)
    with pytest.raises(SealError, match=name):
        vectors.check(SHIPPED / name)


def test_a_writer_that_chains_by_another_hash_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(seal.ChainWriter):
        def _sign(self, epochs: list[Any], parts: list[Any], spans: Any) -> SealedBundle:
            bundle = super()._sign(epochs, parts, spans)
            self.head = replace(bundle.link, hash=hashlib.sha256(bundle.data).digest())
            return bundle

    monkeypatch.setattr(vectors, "ChainWriter", Forgetful)
    with pytest.raises(SealError, match="the previous bundle"):
        vectors.check(SHIPPED / "v1.json")


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", "\x00"])
def test_a_file_that_is_no_such_file_is_a_declared_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "v1.json").write_text(content, encoding="utf-8")
    with pytest.raises(SealError, match=r"v1\.json"):
        vectors.check(tmp_path / "v1.json")
    with pytest.raises(SealError, match="cannot be read"):
        vectors.check(tmp_path / "v1-es256.json")


def test_only_the_two_names_are_known(tmp_path: Path) -> None:
    for act in (vectors.write, vectors.check):
        with pytest.raises(SealError, match=r"v1\.json"):
            act(tmp_path / "v2.json")


@given(st.data())
def test_the_second_reader_refuses_any_changed_byte(data: st.DataObject) -> None:
    content = document("v1.json")
    recipient = content["recipient"]
    reader = reference.Reader(
        bytes.fromhex(content["signer_public"]), -8, bytes.fromhex(recipient["private"]), recipient["alg"]
    )
    bundle = bytes.fromhex(content["bundles"][0])
    changed = bytearray(bundle)
    changed[data.draw(st.integers(0, len(bundle) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((SealError, cbor2.CBORError, ValueError, LookupError, TypeError, AttributeError)):
        reader.read(bytes(changed))


VALUES = st.recursive(
    st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=30) | st.none(),
    lambda inner: st.lists(inner, max_size=30) | st.builds(cbor2.CBORTag, st.sampled_from((16, 18, 96)), inner),
    max_leaves=20,
)


@given(VALUES)
def test_both_encoders_say_the_same(value: object) -> None:
    assert reference.encode(value) == cbor.encode(value)
