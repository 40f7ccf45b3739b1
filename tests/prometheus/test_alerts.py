"""A real Prometheus beside a running gateway and receiver: trouble raises its alert, and mending it ends that."""

import asyncio
import datetime as dt
import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.identity.files import load_certificate, load_private_key
from gateway.identity.tls import client_context
from gateway.lab import mosquitto, small_disk
from gateway.lab.air import Air
from gateway.lab.bonds import BondStore
from gateway.lab.brokers import Mosquitto
from gateway.lab.devices import PLX_ADDRESS, PulseOximeter
from gateway.lab.faults.fault import refused_writes
from gateway.lab.peripheral import LedgerWriter
from gateway.lab.pki import make_dev_pki
from gateway.lab.process import Child
from gateway.lab.proxy import Proxy
from gateway.lab.site import GATEWAY, Site, build, free_port
from gateway.observe.boards import BOARDS
from gateway.observe.dashboards import document
from gateway.receiver.ca.issue import Issuer, certify, profiles
from gateway.uplink.mqtt import Connection

from . import server
from .server import Prometheus

DEADLINE_S = 60.0
STRANGER = "gw-stranger"
DISK_BYTES = 320 << 20
LEFT_BYTES = 6 << 20
OUTBOX = "[outbox]\ncapacity_bytes = 268435456\nreserve_bytes = 0\noffline_tick_ms = 250\n"


@dataclass
class Ward:
    """A site at work, with one oximeter, and what can be done to it."""

    site: Site
    proxy: Proxy
    oximeter: PulseOximeter
    prometheus: Prometheus
    gateway: Child

    async def until_firing(self, *expected: str) -> None:
        """Wait until exactly these alerts fire."""
        deadline_s = time.monotonic() + DEADLINE_S
        while set(firing := await self.prometheus.firing()) != set(expected):
            assert time.monotonic() < deadline_s, f"{sorted(firing)} fire, not {sorted(expected)}"
            await asyncio.sleep(0.2)
        assert firing == {name: f"docs/operations.md#{name.lower()}" for name in expected}

    async def restart_gateway(self) -> None:
        await self.gateway.stop()
        self.gateway = await start_gateway(self.site)

    def certify(self, days: float) -> None:
        """Give the gateway a TLS certificate that ends in so many days."""
        directory = self.site.pki / "gateways" / GATEWAY
        ca = x509.load_pem_x509_certificate(load_certificate(self.site.pki / "ca.crt"))
        key = load_private_key(self.site.pki / "ca.key")
        assert isinstance(key, EllipticCurvePrivateKey)
        certificate = certify(
            replace(profiles()["gateway"], days=days),
            GATEWAY,
            load_private_key(directory / "tls.key").public_key(),
            issuer=Issuer(ca, key),
            now=dt.datetime.now(dt.UTC),
            hosts=(),
        )
        (directory / "tls.crt").write_bytes(certificate.public_bytes(Encoding.PEM))

    async def send_nonsense(self) -> None:
        """Let another gateway of the site send what is no bundle."""
        directory = self.site.pki / "gateways" / STRANGER
        tls = client_context(self.site.pki / "ca.crt", directory / "tls.crt", directory / "tls.key")
        connection = Connection(
            f"127.0.0.1:{self.site.broker_port}",
            client_id=STRANGER,
            tls=tls,
            keepalive_s=20,
            timeout_s=DEADLINE_S,
            clean_start=True,
            session_expiry_s=0,
            receive_maximum=8,
            will=None,
        )
        async with connection:
            await connection.publish(f"v1/gw/{STRANGER}/up/data", b"\xd2\x84 no bundle")


async def start_gateway(site: Site) -> Child:
    arguments = ("gateway.cli.gateway", "run", "--config", str(site.gateway_config))
    return await Child.serve("gateway", *arguments, logs=site.logs)


@pytest.fixture
async def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ward]:
    if server.program() is None:
        pytest.skip("prometheus is not installed; on Debian: apt install prometheus")
    if mosquitto.program() is None:
        pytest.skip("mosquitto is not installed; on Debian: apt install mosquitto")
    if reason := small_disk.impossible(tmp_path):
        pytest.skip(reason)
    monkeypatch.chdir(tmp_path)  # paths of Unix sockets are short
    metrics = {side: f"127.0.0.1:{free_port()}" for side in ("iomt-gateway", "iomt-receiver")}
    site = Site(
        Path(),
        broker_port=free_port(),
        uplink_port=free_port(),
        gateway_metrics=metrics["iomt-gateway"],
        receiver_metrics=metrics["iomt-receiver"],
    )
    site.gateway_state.mkdir(mode=0o700)
    async with AsyncExitStack() as stack:
        stack.enter_context(small_disk.mounted(tmp_path / "disk", site.gateway_state, DISK_BYTES))
        build(site, devices={PLX_ADDRESS: "plx"}, gateway_extra=OUTBOX)
        make_dev_pki(site.pki, [STRANGER])
        air = Air()
        ledger = LedgerWriter(site.ledger)
        stack.callback(ledger.close)
        oximeter = PulseOximeter(air.link, ledger=ledger, seed=1, address=PLX_ADDRESS, interval_s=0.5)
        keys = await BondStore(site.bonds).get(PLX_ADDRESS)
        assert keys
        await oximeter.take_bond(keys)
        await oximeter.start()
        stack.push_async_callback(oximeter.stop)
        await air.serve(site.radio)
        stack.push_async_callback(air.close)
        measuring = asyncio.create_task(oximeter.run())
        stack.callback(measuring.cancel)
        proxy = await stack.enter_async_context(Proxy(listen=site.uplink_port, to=site.broker_port))
        stack.push_async_callback((await Mosquitto(site).start()).stop)
        receiver = ("gateway.cli.receiver", "run", "--config", str(site.receiver_config))
        stack.push_async_callback((await Child.serve("receiver", *receiver, logs=site.logs)).stop)
        prometheus = await Prometheus.start(tmp_path / "prometheus", metrics)
        stack.push_async_callback(prometheus.stop)
        ward = Ward(site, proxy, oximeter, prometheus, await start_gateway(site))

        async def stop_gateway() -> None:
            await ward.gateway.stop()

        stack.push_async_callback(stop_gateway)
        yield ward


async def test_what_goes_wrong_raises_its_alert_and_what_is_mended_ends_it(ward: Ward) -> None:
    await ward.until_firing()
    await the_dashboards_show_something(ward.prometheus)

    ward.certify(days=2)
    await ward.restart_gateway()
    await ward.send_nonsense()
    await ward.until_firing("CertificateEnds", "MessageNotVerified")
    ward.certify(days=14)
    await ward.restart_gateway()
    await ward.until_firing()

    ward.proxy.cut()
    await ward.oximeter.leave()
    await ward.until_firing("GatewayOffline", "WearableSilent")
    await ward.oximeter.come()
    ballast = ward.site.gateway_state / "ballast"
    free_bytes = shutil.disk_usage(ward.site.gateway_state).free
    with ballast.open("wb") as file:
        file.write(bytes(free_bytes - LEFT_BYTES))
    await ward.until_firing("GatewayOffline", "OutboxFillsUp")
    ballast.unlink()
    await ward.until_firing("GatewayOffline")
    ward.proxy.mend()
    await ward.until_firing()
    with refused_writes(ward.gateway):
        await ward.until_firing("StorageRefuses")
    await ward.until_firing()


async def the_dashboards_show_something(prometheus: Prometheus) -> None:
    """Every query of a dashboard is answered, and finds something unless it looks for trouble."""
    panels = [panel for board in BOARDS for panel in document(board)["panels"]]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    queries = [query.replace("$__rate_interval", "5s").replace("$instance", ".*") for query in queries]
    deadline_s = time.monotonic() + DEADLINE_S
    while empty := [each for each in queries if not await prometheus.query(each) and not troubled(each)]:
        assert time.monotonic() < deadline_s, empty
        await asyncio.sleep(0.5)


def troubled(query: str) -> bool:
    return query.endswith("> 0") or "ALERTS" in query


def test_rules_are_made_faster_and_not_changed() -> None:
    shipped: dict[str, Any] = yaml.safe_load((server.SHIPPED / "rules.yml").read_text())
    faster = server.faster(shipped)
    assert shipped["groups"][0]["rules"][0]["for"] == "2m"
    assert faster["groups"][0]["rules"][0]["for"] == "1000ms"

    def without_durations(rules: dict[str, Any]) -> str:
        return re.sub(r"(for: |\[)\w+", r"\1", yaml.safe_dump(rules, width=1000))

    assert without_durations(faster) == without_durations(shipped)
