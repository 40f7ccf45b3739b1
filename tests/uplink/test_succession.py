"""A renewed certificate is taken into use without an outage: the new connection is up before the old one goes."""

import asyncio
import datetime as dt
import json
import time
from pathlib import Path

import pytest
from cryptography import x509

from gateway.identity.tls import ClientContext
from gateway.lab.pki import make_dev_pki

from .conftest import Broker, eventually, tls_of
from .test_uplink import GATEWAY, Box, make_box, receiving, running


@pytest.fixture
def box(pki: Path, tmp_path: Path) -> Box:
    return make_box(pki, tmp_path)


async def test_no_bundle_is_lost_or_waits_while_the_connection_changes(broker: Broker, box: Box) -> None:
    async with receiving(broker) as cloud, running(box, broker.endpoint):
        await box.seal(5)
        await eventually(lambda: box.waiting == 0)
        changes = 3 if broker.kind == "mosquitto" else 1  # amqtt loses a client that comes back in haste
        for _ in range(changes):
            box.uplink.use(tls_of(box.pki, GATEWAY))
            for _ in range(20):
                await box.seal(1)
                await asyncio.sleep(0.01)
        sealed = time.monotonic()
        await eventually(lambda: box.waiting == 0)
        assert time.monotonic() - sealed < 5, "nobody waited for a pause between attempts"
        assert set(cloud.arrived) == set(range(5 + 20 * changes))
        assert box.count("uplink_reconnects_total", cause="taken-over") == 0
        assert box.count("uplink_reconnects_total", cause="lost") == 0


async def test_the_retained_status_says_online_afterwards(broker: Broker, box: Box) -> None:
    async with broker.connection("receiver", clean_start=True) as watcher, running(box, broker.endpoint):
        await watcher.subscribe(f"v1/gw/{GATEWAY}/status")
        await eventually(lambda: box.uplink.online)
        before = box.uplink._flow
        box.uplink.use(tls_of(box.pki, GATEWAY))
        await eventually(lambda: box.uplink.online and box.uplink._flow is not before)
        last = {}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                async for message in watcher.messages():
                    last = json.loads(message.payload)
                    message.ack()
        assert last["state"] == "online"


async def test_a_certificate_that_the_broker_refuses_costs_the_old_connection_nothing(
    broker: Broker, box: Box, tmp_path: Path
) -> None:
    make_dev_pki(tmp_path / "rogue", [GATEWAY])
    async with receiving(broker), running(box, broker.endpoint):
        await eventually(lambda: box.uplink.online)
        flow = box.uplink._flow
        rogue = tls_of(tmp_path / "rogue", GATEWAY)
        rogue.load_verify_locations(box.pki / "ca.crt")
        box.uplink.use(rogue)
        await eventually(lambda: "succession" in box.uplink._told)
        await box.seal(5)
        await eventually(lambda: box.waiting == 0)
        assert box.uplink._flow is flow
        box.uplink.use(tls_of(box.pki, GATEWAY))
        await eventually(lambda: box.uplink.online and box.uplink._flow is not flow)


async def test_a_broker_that_is_revoked_by_now_loses_the_connection_that_it_has(broker: Broker, box: Box) -> None:
    async with receiving(broker), running(box, broker.endpoint):
        await eventually(lambda: box.uplink.online)
        stolen = tls_of(box.pki, GATEWAY)
        assert isinstance(stolen, ClientContext)
        certificate = (box.pki / "broker.crt").read_bytes()
        stolen.revoked = frozenset({x509.load_pem_x509_certificate(certificate).serial_number})
        box.uplink.use(stolen)
        await eventually(lambda: not box.uplink.online)
        assert box.count("uplink_reconnects_total", cause="tls") >= 1
        box.uplink.use(tls_of(box.pki, GATEWAY))
        await eventually(lambda: box.uplink.online)


async def test_a_broker_whose_certificate_is_revoked_or_has_expired_is_not_believed(broker: Broker, box: Box) -> None:
    context = tls_of(box.pki, GATEWAY)
    assert isinstance(context, ClientContext)
    certificate = (box.pki / "broker.crt").read_bytes()
    context.revoked = frozenset({x509.load_pem_x509_certificate(certificate).serial_number})
    with pytest.raises(Exception, match="revoked"):
        async with broker.connection(GATEWAY, tls=context):
            pass
    context.revoked = frozenset()
    context.floor = dt.datetime.now(dt.UTC) + dt.timedelta(days=400)
    with pytest.raises(Exception, match="expired"):
        async with broker.connection(GATEWAY, tls=context):
            pass
    context.floor = None
    async with broker.connection(GATEWAY, tls=context):
        pass
