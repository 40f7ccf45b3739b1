"""The daemon: nothing half-configured starts; it ends in order; systemd hears of it; the control API tells."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.ble.healing import LinkState
from gateway.clock.device import Look
from gateway.clock.keeper import Sample
from gateway.clock.system import SystemClocks, wall_clock_ms
from gateway.config import GatewayConfig, load
from gateway.control.api import socket_path
from gateway.control.continuation import Continuation
from gateway.envelope.keylist import encode_key_list
from gateway.envelope.keys import signer_for
from gateway.errors import GatewayError, IdentityError, OutboxLockedError, ReceiptError
from gateway.identity.files import load_private_key
from gateway.lab.pki import make_dev_pki
from gateway.lab.site import GATEWAY, Site, build, free_port
from gateway.model import Lane, Link
from gateway.observe.http import fetch
from gateway.outbox.outbox import list_bundles
from gateway.supervisor import Gateway
from gateway.uplink.backoff import Backoff

NOON_MS = 1_800_000_000_000


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(tmp_path)
    port = free_port()
    site = Site(Path(), broker_port=port, uplink_port=port)
    build(site, devices={"F0:00:00:00:00:01": "cgm"}, gateway_extra="[outbox]\noffline_tick_ms = 10\n")
    return site


@pytest.fixture
def notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def gateway(site: Site) -> Gateway:
    return Gateway(load(site.gateway_config, GatewayConfig))


async def started(site: Site) -> tuple[Gateway, asyncio.Task[None]]:
    daemon = gateway(site)
    task = asyncio.create_task(daemon.run(None))
    async with asyncio.timeout(10):
        await daemon.outbox.grown()
    return daemon, task


async def metrics_page(site: Site) -> str:
    return (await fetch("/metrics", socket=socket_path(site.gateway_state))).decode()


def bundles(site: Site) -> list[Link]:
    return [link for link, _ in list_bundles(site.outbox)]


async def test_sigterm_ends_it_in_order_and_systemd_hears_of_both(site: Site, notified: socket.socket) -> None:
    daemon, task = await started(site)
    assert notified.recv(100) == b"READY=1"
    before = daemon.outbox.newest()
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(10):
        await task
    assert notified.recv(100) == b"STOPPING=1"
    assert len(bundles(site)) == before + 2


async def test_sighup_ends_the_pause_before_the_next_connection_and_nothing_else(site: Site) -> None:
    daemon = gateway(site)
    daemon.uplink._backoff = Backoff(3600.0, lambda _, longest: longest * 3600)
    task = asyncio.create_task(daemon.run(None))

    def failed() -> float:
        name = "iomt_gateway_uplink_reconnects_total"
        return daemon.metrics.registry.get_sample_value(name, {"cause": "unreachable"}) or 0

    async with asyncio.timeout(20):
        for count in (1, 2, 3):
            while failed() < count:  # noqa: ASYNC110 - a count in a registry
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            os.kill(os.getpid(), signal.SIGHUP)
    assert not task.done()
    os.kill(os.getpid(), signal.SIGTERM)
    await task


async def test_a_service_manager_that_has_gone_does_not_disturb_an_orderly_end(
    site: Site, notified: socket.socket
) -> None:
    daemon, task = await started(site)
    notified.close()
    before = daemon.outbox.newest()
    os.kill(os.getpid(), signal.SIGTERM)
    await task
    assert len(bundles(site)) == before + 2


async def test_the_control_api_tells_the_state(site: Site) -> None:
    daemon, task = await started(site)
    daemon.clock_book.seen("F0:00:00:00:00:01", Look(NOON_MS + 3_600_000, NOON_MS, 1_000))
    status = json.loads(await fetch("/v1/status", socket=socket_path(site.gateway_state)))
    assert status["gateway"] == GATEWAY
    assert status["online"] is False
    assert status["clock"] == "system"
    assert status["bundles_waiting"] == 1
    assert status["records_sealed"] == 2  # start and clock anchor
    assert status["chain"] == daemon.writers[Lane.DATA].chain.hex()
    assert status["devices"] == [
        {
            "address": "F0:00:00:00:00:01",
            "profile": "cgm",
            "state": "link-down",
            "backfill": "open",
            "clock_behind_s": -3600.0,
            "clock_drift_ppm": None,
        }
    ]
    os.kill(os.getpid(), signal.SIGTERM)
    await task


async def test_a_box_that_boots_without_a_clock_says_so_and_tells_the_time_once_it_knows_it(site: Site) -> None:
    shown = Sample(boot_ms=40_000, wall_ms=wall_clock_ms())
    system = SystemClocks(boot=b"b" * 16, boot_ms=lambda: 40_000, sample=lambda: shown)
    site.gateway_config.write_text(site.gateway_config.read_text().replace('believe = "system"', 'believe = "auto"'))
    daemon = Gateway(load(site.gateway_config, GatewayConfig), clocks=system)
    task = asyncio.create_task(daemon.run(None))
    async with asyncio.timeout(10):
        await daemon.outbox.grown()
        assert daemon.clock.source is None
        page = await metrics_page(site)
        assert "iomt_gateway_clock_known 0.0" in page
        assert 'iomt_gateway_clock_source{source="unknown"} 1.0' in page
        assert daemon.metrics.value("sealed_records_total") == 1
        shown = replace(shown, error_ms=12)
        while daemon.metrics.value("sealed_records_total") == 1:  # noqa: ASYNC110 - the count knows no event
            await asyncio.sleep(0.05)
        page = await metrics_page(site)
    assert daemon.clock.source == "ntp"
    assert "iomt_gateway_clock_known 1.0" in page
    assert "iomt_gateway_clock_error_seconds 0.016" in page
    assert 'iomt_gateway_clock_source{source="ntp"} 1.0' in page
    assert 'iomt_gateway_clock_source{source="unknown"} 0.0' in page
    daemon.clock_book.seen("F0:00:00:00:00:01", Look(shown.wall_ms, shown.wall_ms, 1_000))
    shown = replace(shown, wall_ms=shown.wall_ms + 3_600_000)
    async with asyncio.timeout(10):
        while daemon.clock_book.get("F0:00:00:00:00:01"):  # noqa: ASYNC110 - the book knows no event
            await asyncio.sleep(0.05)
        assert "iomt_gateway_clock_step_seconds 3600.0" in (await metrics_page(site))
    os.kill(os.getpid(), signal.SIGTERM)
    await task


async def test_fifty_starts_open_fifty_chains_each_naming_the_one_before(site: Site) -> None:
    for _ in range(50):
        daemon = gateway(site)
        daemon.pipeline.event("start")
        await daemon.pipeline.flush()
        daemon.outbox.close()
    links = bundles(site)
    assert len({link.chain for link in links}) == 50
    assert [link.no for link in links] == [0] * 50


async def test_a_restore_is_told_once_though_the_box_was_killed_between_the_syncs_of_its_two_lanes(site: Site) -> None:
    site.gateway_state.mkdir(exist_ok=True)
    Continuation.make(NOON_MS, {Lane.DATA: Link(b"c" * 16, 41, b"h" * 32)}).write(site.gateway_state)
    urgent: list[set[bytes]] = []
    for _ in range(2):
        _, task = await started(site)
        os.kill(os.getpid(), signal.SIGTERM)
        await task
        for segment in site.outbox.glob("*.seg"):
            segment.unlink()  # the urgent bundle was durable by then, and nothing of the data lane
        urgent.append({link.chain for link in bundles(site)})
    assert len(urgent[0]) == 1
    assert urgent[1] == urgent[0]


async def test_bundles_that_the_card_has_lost_are_told_at_the_next_start(site: Site) -> None:
    daemon = gateway(site)
    for number in range(3):
        daemon.pipeline.event("start", number)
        await daemon.pipeline.flush()
    second = daemon.outbox.load(daemon.outbox.unreceipted(after=-1, limit=3)[1])
    daemon.outbox.close()
    [segment] = sorted(site.outbox.glob("*.seg"))
    content = bytearray(segment.read_bytes())
    content[content.index(second) + len(second) // 2] ^= 1
    segment.write_bytes(content)
    daemon, task = await started(site)
    page = (await fetch("/metrics", socket=socket_path(site.gateway_state))).decode()
    assert "iomt_gateway_outbox_missing_bundles 1.0" in page
    os.kill(os.getpid(), signal.SIGTERM)
    await task


async def test_two_daemons_cannot_share_a_state_directory(site: Site) -> None:
    daemon = gateway(site)
    with pytest.raises(OutboxLockedError):
        gateway(site)
    daemon.outbox.close()


@pytest.mark.parametrize("name", ["sign.key", "tls.key"])
async def test_a_key_that_others_can_read_is_refused_with_the_command_that_mends_it(site: Site, name: str) -> None:
    key = site.pki / "gateways" / GATEWAY / name
    key.chmod(0o644)
    with pytest.raises(IdentityError, match=f"chmod 600 .*{name}"):
        gateway(site)


@pytest.mark.parametrize("name", ["sign.crt", "tls.crt"])
async def test_a_certificate_of_another_gateway_is_refused_by_name(site: Site, name: str) -> None:
    make_dev_pki(site.pki, ["gw-other"])
    (site.pki / "gateways" / GATEWAY / name).write_bytes((site.pki / "gateways" / "gw-other" / name).read_bytes())
    with pytest.raises(IdentityError, match=f"{name}: belongs to gw-other, not to {GATEWAY}"):
        gateway(site)


async def test_a_key_list_that_cannot_be_kept_is_refused_and_costs_nothing(site: Site) -> None:
    daemon = gateway(site)
    root = signer_for(load_private_key(site.pki / "fleet-root.key"))
    newer = encode_key_list(replace(daemon.keys.current, serial=2), root)
    (site.gateway_state / "keys.cbor.new").mkdir()
    with pytest.raises(ReceiptError, match="cannot be kept"):
        daemon.keys.offer(newer, now_ms=wall_clock_ms())
    assert daemon.keys.current.serial == 1
    (site.gateway_state / "keys.cbor.new").rmdir()
    assert daemon.keys.offer(newer, now_ms=wall_clock_ms())
    daemon.outbox.close()
    assert gateway(site).keys.current.serial == 2


@pytest.mark.parametrize("name", ["ca.crt", "fleet-root.pub", "keys.cbor"])
async def test_a_file_of_another_kind_is_refused_by_name(site: Site, name: str) -> None:
    (site.pki / name).write_bytes(b"something else")
    with pytest.raises(GatewayError, match=name):
        gateway(site)
    assert not (site.outbox / "lock").exists()


async def test_a_cgm_with_a_patient_and_without_a_link_is_counted(site: Site) -> None:
    daemon, task = await started(site)
    assert "iomt_gateway_unlinked_devices 0.0" in await metrics_page(site)
    (address,) = (device.address for device in daemon.inventory.devices)
    states = {address: LinkState.UP}
    daemon._states = lambda: states
    for state, count in [(LinkState.UP, 0), (LinkState.UNASSIGNED, 0), (LinkState.DOWN, 1), (LinkState.QUARANTINED, 1)]:
        states[address] = state
        page = await metrics_page(site)
        assert f"iomt_gateway_unlinked_devices {count}.0" in page
        assert address not in page
    os.kill(os.getpid(), signal.SIGTERM)
    await task
