"""`iomt-gateway outbox` and `iomt-receiver import`: what waits can be seen, checked, and carried by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config import GatewayConfig, load
from gateway.health.metrics import GLUCOSE
from gateway.lab.site import Site, build, free_port
from gateway.model import Reading
from gateway.outbox.framing import Frame, FrameKind, scan
from gateway.supervisor import Gateway

STREAM = b"s" * 16
READINGS = 5


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"gateway.cli.{program}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site whose gateway holds five readings, one a bundle."""
    monkeypatch.chdir(tmp_path)
    port = free_port()
    site = Site(Path(), broker_port=port, uplink_port=port)
    build(site, devices={}, gateway_extra="[outbox]\ntick_ms = 0\n")
    gateway = Gateway(load(site.gateway_config, GatewayConfig))
    for number in range(READINGS):
        gateway.pipeline.submit(STREAM, [Reading("F0:00:00:00:00:01", GLUCOSE, 100, 0, 1_790_000_000_000 + number)])
        await gateway.pipeline.flush()
    gateway.outbox.close()
    return site


def outbox(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("gateway", "outbox", *arguments, "--config", str(site.gateway_config))


def carried(site: Site, file: str) -> dict[str, int]:
    done = run("receiver", "import", "--json", "--config", str(site.receiver_config), file)
    assert done.returncode == 0, done.stderr
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


async def test_status_says_what_is_held_and_what_waits(site: Site) -> None:
    status = json.loads(outbox(site, "status", "--json").stdout)
    assert (status["bundles"], status["records"], status["waiting_bundles"]) == (READINGS, READINGS, READINGS)
    assert (status["oldest_waiting_ms"], status["faults"]) == (1_790_000_000_000, [])
    assert f"waiting bundles    {READINGS}" in outbox(site, "status").stdout


async def test_it_reads_while_the_daemon_writes(site: Site) -> None:
    gateway = Gateway(load(site.gateway_config, GatewayConfig))
    gateway.pipeline.event("start")
    await gateway.pipeline.flush()
    done = outbox(site, "verify", "--json")
    gateway.outbox.close()
    assert (done.returncode, json.loads(done.stdout)["bundles"]) == (0, READINGS + 1)


async def test_verify_names_what_cannot_be_read_and_changes_nothing(site: Site) -> None:
    assert outbox(site, "verify").returncode == 0
    path = site.outbox / f"{1:012}.seg"
    data = bytearray(path.read_bytes())
    frames = [found for found in scan(bytes(data)) if isinstance(found, Frame) and found.kind == FrameKind.BUNDLE]
    data[frames[3].offset + 100] ^= 1  # the first is there twice
    path.write_bytes(data)
    done = outbox(site, "verify")
    assert done.returncode == 1
    assert f"{path.name}: byte {frames[3].offset}: " in done.stdout
    assert "bundles 2 to 2 of chain" in done.stdout
    assert path.read_bytes() == bytes(data)
    assert json.loads(outbox(site, "verify", "--json").stdout)["bundles"] == READINGS - 1


async def test_a_torn_end_is_no_fault(site: Site) -> None:
    path = site.outbox / f"{1:012}.seg"
    data = path.read_bytes()
    path.write_bytes(data.rstrip(b"\0") + b"\xff" * 100)
    found = json.loads(outbox(site, "verify", "--json").stdout)
    assert (found["torn"], found["faults"]) == (1, [])


async def test_what_is_exported_is_imported_once_however_often_it_is_done(site: Site) -> None:
    done = outbox(site, "export", "carried.cbor")
    assert done.returncode == 0, done.stderr
    assert "5 bundles" in done.stdout
    assert Path("carried.cbor").stat().st_mode & 0o777 == 0o600
    first, again = carried(site, "carried.cbor"), carried(site, "carried.cbor")
    assert (first["bundles"], first["stored"], first["redelivered"], first["refused"]) == (READINGS, READINGS, 0, 0)
    assert (again["stored"], again["redelivered"]) == (0, READINGS)


async def test_nothing_is_written_over_and_a_file_cut_short_is_named(site: Site) -> None:
    path = Path("carried.cbor")
    assert outbox(site, "export", str(path)).returncode == 0
    assert "exists" in outbox(site, "export", str(path)).stderr
    path.write_bytes(path.read_bytes()[:-10])
    done = run("receiver", "import", "--config", str(site.receiver_config), str(path))
    assert done.returncode == 1
    assert "carried.cbor: is cut short" in done.stderr
    # What came before the cut is stored.
    assert outbox(site, "export", "whole.cbor").returncode == 0
    assert carried(site, "whole.cbor")["bundles"] == READINGS


async def test_without_an_outbox_the_directory_is_named(site: Site) -> None:
    for path in sorted(site.outbox.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    site.outbox.rmdir()
    done = outbox(site, "status")
    assert done.returncode == 1
    assert "there is no outbox" in done.stderr
