"""What somebody gets who has the whole disk, or a core dump of the running process."""

import hmac
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.envelope.keys import signer_for
from gateway.envelope.open import SignedBundle, parse
from gateway.envelope.ratchet import Ratchet
from gateway.envelope.seal import ChainWriter
from gateway.identity.files import load_private_key, load_recipient_key
from gateway.lab.pki import make_dev_pki
from gateway.model import Batch, Record
from gateway.outbox.outbox import Outbox
from tests.identity.sealing import PARTS, RECIPIENT, draw

GATEWAY = "gw-001"
DEVICE = "C0:FF:EE:00:00:01"
KEY_BYTES = 32


@pytest.fixture
async def disk(tmp_path: Path) -> Path:
    """Everything that a gateway keeps: keys, certificates, key list, and an outbox with readings."""
    make_dev_pki(tmp_path / "pki", [GATEWAY])
    box = tmp_path / "box"
    (tmp_path / "pki" / "gateways" / GATEWAY).rename(box)
    for name in ("ca.crt", "fleet-root.pub", "keys.cbor"):
        (tmp_path / "pki" / name).rename(box / name)
    outbox = Outbox.open(box / "outbox", gateway=GATEWAY, segment_bytes=1 << 20, capacity_bytes=8 << 20)
    writer = ChainWriter(
        gateway=GATEWAY,
        chain=os.urandom(16),
        signer=signer_for(load_private_key(box / "sign.key")),
        recipients=[load_recipient_key(tmp_path / "pki" / "recipient.key").recipient],
        predecessor=None,
        random=os.urandom,
    )
    for number in range(20):
        record = Record(device=DEVICE, metric=1, mantissa=number, exponent=0, time_ms=number)
        bundle, _ = writer.seal([Batch(b"\x07" * 16, (record,))], now_ms=number)
        outbox.append(bundle)
    await outbox.sync()
    outbox.close()
    return box


def sealed(disk: Path) -> list[SignedBundle]:
    """What lies in the outbox."""
    outbox = Outbox.open(disk / "outbox", gateway=GATEWAY, segment_bytes=1 << 20, capacity_bytes=8 << 20)
    try:
        return [parse(outbox.load(each)) for each in outbox.unreceipted(-1, 100)]
    finally:
        outbox.close()


def candidates(disk: Path) -> Iterator[bytes]:
    """Every 32 bytes that lie anywhere on the disk."""
    for path in disk.rglob("*"):
        if not path.is_file():
            continue
        content = path.read_bytes().rstrip(b"\x00")
        yield from (content[start : start + KEY_BYTES] for start in range(len(content) - KEY_BYTES + 1))


async def test_with_the_whole_disk_no_reading_opens(disk: Path, tmp_path: Path) -> None:
    segments = [path.read_bytes() for path in (disk / "outbox").rglob("*") if path.is_file()]
    assert not any(DEVICE.encode() in each for each in segments)
    everything = set(candidates(disk))
    owner = load_recipient_key(tmp_path / "pki" / "recipient.key")
    opened = [part.open(bundle, {owner.kid: owner}) for bundle in sealed(disk) for part in bundle.epochs]
    assert opened, "the cloud opens what the thief does not"
    assert owner.private not in everything
    assert not everything.intersection(epoch.secret for epoch in opened)
    for epoch in opened:
        ratchet = Ratchet(epoch.secret, epoch.salt)
        assert not everything.intersection(ratchet.next() for _ in range(64))


def memory(process: int) -> bytes:
    """Everything that a process can write to: what a core dump would hold."""
    parts = []
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            span, permissions, *_ = line.split()
            start, end = (int(each, 16) for each in span.split("-"))
            if permissions.startswith("rw") and "[v" not in line:
                file.seek(start)
                parts.append(file.read(end - start))
    return b"".join(parts)


def test_a_core_dump_has_no_key_older_than_the_present_step() -> None:
    command = (sys.executable, "-m", "tests.identity.sealing")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout
        said = json.loads(child.stdout.readline())
        dump = memory(child.pid)
        child.kill()
    bundle = parse(bytes.fromhex(said["first"]))
    epoch = bundle.epochs[0].open(bundle, {RECIPIENT.kid: RECIPIENT})
    chain = hmac.digest(epoch.salt, epoch.secret, "sha256")
    found = [f"secret {number}" for number in range(1, said["draws"] + 1) if draw(number, KEY_BYTES) in dump]
    for step in range(PARTS):
        if chain in dump:
            found.append(f"chain key {step}")
        if hmac.digest(chain, b"iomt-gateway/1 message\x01", "sha256") in dump:
            found.append(f"message key {step}")
        chain = hmac.digest(chain, b"iomt-gateway/1 chain\x01", "sha256")
    assert not found
    assert chain in dump, "the key of the present step is there: the search works"
    residue = {number for number in range(PARTS) if f"RESIDUE-{number:04}".encode() in dump}
    assert len(residue) <= 5, "plain text of earlier readings"
