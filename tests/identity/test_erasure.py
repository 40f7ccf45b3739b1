"""A gateway's end: nothing that was worth something is left, and what was lost is said, signed."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.envelope.keys import signer_for
from gateway.envelope.seal import ChainWriter
from gateway.errors import SealError
from gateway.identity.erasure import decode_erasure
from gateway.identity.files import load_private_key, load_recipient_key, verify_key
from gateway.lab.pki import make_dev_pki
from gateway.lab.site import write_configurations
from gateway.model import Batch, Event
from gateway.outbox.outbox import Outbox

GATEWAY = "gw-001"
NOW_MS = 1_790_000_000_000


@pytest.fixture
def site(tmp_path: Path) -> Path:
    make_dev_pki(tmp_path, [GATEWAY])
    write_configurations(tmp_path, GATEWAY)
    return tmp_path


async def fill(site: Path, bundles: int) -> None:
    """Leave bundles that no receipt covers."""
    state = site / "gateway-state"
    state.mkdir()
    (state / "bonds.json").write_text('{"ltk": "secret"}')
    outbox = Outbox.open(state / "outbox", gateway=GATEWAY, segment_bytes=4 << 20, capacity_bytes=1 << 30)
    writer = ChainWriter(
        gateway=GATEWAY,
        chain=b"c" * 16,
        signer=signer_for(load_private_key(site / "gateways" / GATEWAY / "sign.key")),
        recipients=[load_recipient_key(site / "recipient.key").recipient],
        predecessor=None,
        random=bytes,
    )
    for number in range(bundles):
        bundle, _ = writer.seal([Batch(bytes(16), (Event(NOW_MS, f"test {number}"),))], now_ms=NOW_MS)
        outbox.append(bundle)
    await outbox.sync()
    outbox.close()


def wipe(site: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "gateway.cli.gateway", "wipe", "--config", str(site / "gateway.toml"), *options)
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=site, timeout=60)


async def test_keys_bonds_and_outbox_are_gone_and_the_certificate_says_what_was_lost(site: Path) -> None:
    await fill(site, 3)
    key = verify_key(load_private_key(site / "gateways" / GATEWAY / "sign.key").public_key())
    done = wipe(site, "--yes", "--discard-backlog")
    assert done.returncode == 0, done.stderr
    told = decode_erasure((site / f"{GATEWAY}-erasure.cose").read_bytes(), key)
    assert (told.gateway, told.discarded) == (GATEWAY, 3)
    [head] = told.heads
    assert (head.chain, head.no) == (b"c" * 16, 2)
    assert not (site / "gateway-state").exists()
    assert not list((site / "gateways" / GATEWAY).glob("*.key"))


async def test_a_backlog_is_lost_only_on_purpose(site: Path) -> None:
    await fill(site, 3)
    refused = wipe(site, "--yes")
    assert refused.returncode == 2
    assert "3 bundles wait for a receipt" in refused.stderr
    assert (site / "gateways" / GATEWAY / "sign.key").exists()
    assert "say --yes" in wipe(site, "--discard-backlog").stderr
    assert (site / "gateway-state" / "bonds.json").exists()


async def test_a_gateway_that_runs_is_left_alone(site: Path) -> None:
    await fill(site, 1)
    outbox = Outbox.open(
        site / "gateway-state" / "outbox", gateway=GATEWAY, segment_bytes=4 << 20, capacity_bytes=1 << 30
    )
    try:
        assert "another process" in wipe(site, "--yes", "--discard-backlog").stderr
    finally:
        outbox.close()


async def test_the_certificate_is_not_written_where_everything_is_erased(site: Path) -> None:
    await fill(site, 1)
    inside = str(site / "gateway-state" / "certificate")
    assert "lies in what will be erased" in wipe(site, "--yes", "--certificate", inside).stderr


async def test_a_certificate_that_was_changed_is_not_believed(site: Path) -> None:
    await fill(site, 1)
    key = verify_key(load_private_key(site / "gateways" / GATEWAY / "sign.key").public_key())
    wipe(site, "--yes", "--discard-backlog")
    data = bytearray((site / f"{GATEWAY}-erasure.cose").read_bytes())
    data[-70] ^= 1
    with pytest.raises(SealError):
        decode_erasure(bytes(data), key)
