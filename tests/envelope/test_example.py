"""The example in `docs/format.md` is what it says it is."""

import json
import re
from pathlib import Path

from gateway.envelope import cbor, reference
from gateway.envelope.open import parse

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = (DOCS / "format.md").read_text(encoding="utf-8").split("## Example\n")[1].split("\n## ")[0]
BLOCKS = re.findall(r"```text\n(.*?)```", EXAMPLE, re.DOTALL)
VECTORS = json.loads((DOCS / "vectors" / "v1-es256.json").read_text(encoding="utf-8"))


def octets(block: str) -> bytes:
    """What stands left of the comments."""
    return bytes.fromhex("".join(line.partition("#")[0] for line in block.splitlines()))


def named(block: str) -> dict[str, bytes]:
    """A name a line, its value indented below."""
    entries = re.findall(r"^(\S.*)\n((?:  .*\n)+)", block, re.MULTILINE)
    return {name: bytes.fromhex(value) for name, value in entries}


def test_the_annotated_bundle_is_the_first_of_the_vectors() -> None:
    assert octets(BLOCKS[0]).hex() == VECTORS["bundles"][0]


def test_the_annotated_plaintext_is_its_batchs() -> None:
    assert octets(BLOCKS[2]).hex() == VECTORS["plaintexts"][0][1]


def test_what_is_derived_is_right() -> None:
    bundle = octets(BLOCKS[0])
    derived = named(BLOCKS[1])
    signed, (epoch,) = cbor.decode(bundle)
    (batch,) = cbor.decode(signed.value[2])[6]
    aad = reference.encode(["iomt-gateway/1 part", "gw-0007", parse(bundle).chain, parse(bundle).signer_kid])
    secret = reference.decode(bytes.fromhex(VECTORS["plaintexts"][0][0]))[-1]
    assert derived["external_aad of both parts"] == aad
    assert derived["AAD of the batch part"] == reference.encode(["Encrypt0", batch.value[0], aad])
    assert derived["HPKE info"] == reference.encode(["HPKE Recipient", 24, epoch.value[3][0][0], b""])
    assert (derived["secret"], derived["salt"]) == (secret, epoch.value[0])
    assert derived["key 0"] == reference.message_key(secret, epoch.value[0], 0)
    assert derived["hash of this bundle"] == reference.sha256(reference.encode(signed))
