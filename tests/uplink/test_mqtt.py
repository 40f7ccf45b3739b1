"""One connection: what it promises on MQTT 5 (mosquitto) and on 3.1.1 (the embedded broker)."""

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from gateway.errors import (
    BrokerNotFoundError,
    BrokerUnreachableError,
    ConnectionLostError,
    ConnectionRefusedByBrokerError,
    TlsRefusedError,
    UplinkError,
)
from gateway.lab.pki import make_dev_pki
from gateway.lab.proxy import Proxy
from gateway.uplink.client import Limits
from gateway.uplink.mqtt import Connection, Will, check_cancelled

from .conftest import Broker, connect, eventually, free_port, tls_of

UP, DOWN, STATUS = "v1/gw/gw-001/up/data", "v1/gw/gw-001/down/receipt", "v1/gw/gw-001/status"


async def drain(connection: Connection, count: int) -> list[bytes]:
    payloads: list[bytes] = []
    async with asyncio.timeout(10):
        while len(payloads) < count:
            for message in await connection.receive(count):
                payloads.append(message.payload)
                message.ack()
    return payloads


async def silent(connection: Connection, seconds: float = 0.3) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await connection.receive(1)
    except TimeoutError:
        return True
    return False


async def test_publishes_arrive_in_order_and_each_answers_with_its_reason_code(broker: Broker) -> None:
    async with broker.connection("receiver", clean_start=True) as receiver, broker.connection("gw-001") as gateway:
        await receiver.subscribe("v1/gw/+/up/#")
        payloads = [str(number).encode() for number in range(100)]
        codes = [await each for each in [gateway.publish(UP, payload) for payload in payloads]]
        assert set(codes) == {0}
        assert await drain(receiver, 100) == payloads


async def test_the_brokers_limits_are_known_in_mqtt_5_and_the_protocols_own_in_3_1_1(broker: Broker) -> None:
    async with broker.connection("gw-001") as gateway:
        assert gateway.limits == (Limits(256, 262_144) if broker.kind == "mosquitto" else Limits())


async def test_more_publishes_than_the_broker_takes_at_once_wait_their_turn(broker: Broker) -> None:
    async with broker.connection("gw-001") as gateway:
        codes = await asyncio.gather(*[gateway.publish(UP, b"x") for _ in range(600)])
        assert all(code < 0x80 for code in codes)


async def test_what_was_not_acknowledged_comes_again_to_the_same_session(broker: Broker) -> None:
    async with broker.connection("receiver", clean_start=True):
        pass
    async with broker.connection("receiver", clean_start=False, session_expiry_s=60) as receiver:
        await receiver.subscribe("v1/gw/+/up/#")
    async with broker.connection("gw-001") as gateway:
        assert await gateway.publish(UP, b"while away") == 0
    async with broker.connection("receiver") as receiver:
        assert receiver.session_present
        assert [each.payload for each in await receiver.receive(1)] == [b"while away"]
    if broker.kind == "embedded":
        return  # it forgets what it sent to a subscriber that left before its PUBACK, as its docstring says
    async with broker.connection("receiver") as receiver:
        assert await drain(receiver, 1) == [b"while away"]
    async with broker.connection("receiver") as receiver:
        assert await silent(receiver)


async def test_a_retained_status_waits_for_subscribers_and_the_will_replaces_it(broker: Broker) -> None:
    async def stall() -> None:
        async with broker.connection("gw-001") as gateway:
            await gateway.publish(STATUS, b"online", retain=True)
            async with broker.connection("receiver", clean_start=True) as receiver:
                await receiver.subscribe("v1/gw/+/status")
                assert await drain(receiver, 1) == [b"online"]
            raise ConnectionLostError("a stall")

    with pytest.raises(ConnectionLostError, match="a stall"):
        await stall()
    async with broker.connection("receiver", clean_start=True) as receiver:
        await receiver.subscribe("v1/gw/+/status")
        while await drain(receiver, 1) != [b"offline"]:
            pass


async def test_a_farewell_suppresses_the_will(broker: Broker) -> None:
    async with broker.connection("receiver", clean_start=True) as receiver:
        await receiver.subscribe("v1/gw/gw-002/status")
        async with broker.connection("gw-002") as gateway:
            await gateway.publish("v1/gw/gw-002/status", b"farewell")
        assert await drain(receiver, 1) == [b"farewell"]
        assert await silent(receiver)


async def test_everything_that_waits_fails_when_the_connection_is_cut(broker: Broker) -> None:
    async with Proxy(listen=0, to=broker.port) as proxy:
        through = broker.connection("gw-001", port=proxy.port)
        async with through:
            proxy.hole()
            puback = through.publish(UP, b"x")
            subscription = asyncio.ensure_future(through.subscribe("v1/gw/gw-001/down/#"))
            message = asyncio.ensure_future(through.receive(1))
            await asyncio.sleep(0.05)
            proxy.cut()
            async with asyncio.timeout(30):
                for waiting in (puback, subscription, message):
                    with pytest.raises(ConnectionLostError):
                        await waiting
            with pytest.raises(ConnectionLostError):
                through.publish(UP, b"x")
            with pytest.raises(ConnectionLostError):
                await through.receive(1)


async def test_a_broker_that_swallows_everything_is_unreachable_in_time(broker: Broker) -> None:
    async with Proxy(listen=0, to=broker.port) as proxy:
        proxy.hole()
        swallowed = broker.connection("gw-001", port=proxy.port, timeout_s=0.3)
        with pytest.raises(BrokerUnreachableError):
            async with swallowed:
                pass


async def test_cancelled_while_connecting_leaves_no_socket_behind(broker: Broker) -> None:
    async def enter() -> None:
        async with broker.connection("gw-002"):
            pass

    await enter()
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for delay_s in (0.0, 0.002, 0.005, 0.01, 0.02):
        task = asyncio.ensure_future(enter())
        await asyncio.sleep(delay_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: sum(1 for _ in Path("/proc/self/fd").iterdir()) <= before)


@pytest.mark.parametrize(
    ("endpoint", "error"),
    [
        ("no-such-host.invalid:8883", BrokerNotFoundError),
        (f"{'x' * 70}.invalid:8883", BrokerNotFoundError),
        (f"127.0.0.1:{free_port()}", BrokerUnreachableError),
    ],
)
async def test_a_broker_that_cannot_be_reached_is_named_with_its_reason(
    pki: Path, endpoint: str, error: type[UplinkError]
) -> None:
    connection = connect(endpoint, "gw-001", pki)
    with pytest.raises(error, match=endpoint):
        async with connection:
            pass


def bare(pki: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pki / "ca.crt"))


def rogue(pki: Path, tmp_path: Path) -> ssl.SSLContext:
    make_dev_pki(tmp_path, ["gw-001"])
    context = bare(pki)
    context.load_cert_chain(tmp_path / "gateways/gw-001/tls.crt", tmp_path / "gateways/gw-001/tls.key")
    return context


def old_version(pki: Path) -> ssl.SSLContext:
    context = tls_of(pki, "gw-001")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@pytest.mark.parametrize("client", ["bare", "rogue", "tls 1.2"])
async def test_a_client_without_a_certificate_with_a_rogue_one_or_with_tls_1_2_is_refused(
    broker: Broker, client: str, tmp_path: Path
) -> None:
    contexts = {
        "bare": lambda: bare(broker.pki),
        "rogue": lambda: rogue(broker.pki, tmp_path),
        "tls 1.2": lambda: old_version(broker.pki),
    }
    with pytest.raises(UplinkError) as caught:
        async with broker.connection("gw-001", tls=contexts[client]()):
            pass
    if broker.kind == "mosquitto":
        assert caught.type is TlsRefusedError


async def test_a_broker_with_another_name_or_another_ca_is_refused(broker: Broker, tmp_path: Path) -> None:
    make_dev_pki(tmp_path, ["gw-001"])
    with pytest.raises(TlsRefusedError, match="certificate"):
        async with broker.connection("gw-001", tls=tls_of(tmp_path, "gw-001")):
            pass


async def test_a_gateway_cannot_publish_on_anothers_topics(broker: Broker) -> None:
    async with broker.connection("receiver", clean_start=True) as receiver, broker.connection("gw-001") as gateway:
        await receiver.subscribe("v1/gw/+/up/#")
        for topic in ("v1/gw/gw-002/up/data", "v1/gw/gw-002/status", DOWN, "elsewhere"):
            code = await gateway.publish(topic, b"forged")
            assert code == (0x87 if broker.kind == "mosquitto" else 0)
        await gateway.publish(UP, b"genuine")
        assert await drain(receiver, 1) == [b"genuine"]


async def test_a_gateway_cannot_read_anothers_topics_by_any_filter(broker: Broker) -> None:
    async with broker.connection("receiver", clean_start=True) as receiver, broker.connection("gw-001") as gateway:
        for topic in ("v1/gw/gw-002/down/#", "v1/gw/+/down/#", "v1/gw/#", "#", "$share/g/v1/gw/+/down/#", "+/+/+/#"):
            try:
                await gateway.subscribe(topic)
            except ConnectionRefusedByBrokerError:
                assert broker.kind == "embedded"
        assert await receiver.publish("v1/gw/gw-002/down/receipt", b"for gw-002") < 0x80
        assert await silent(gateway)


async def test_a_gateway_reads_its_own_and_a_shared_subscription_serves_the_receiver(broker: Broker) -> None:
    async with broker.connection("receiver", clean_start=True) as receiver, broker.connection("gw-001") as gateway:
        await receiver.subscribe("$share/receivers/v1/gw/+/up/#")
        await gateway.subscribe("v1/gw/gw-001/down/#")
        await gateway.publish(UP, b"up")
        await receiver.publish(DOWN, b"down")
        assert await drain(receiver, 1) == [b"up"]
        assert await drain(gateway, 1) == [b"down"]


async def test_a_gateway_cannot_leave_its_will_on_anothers_topics(broker: Broker) -> None:
    async with broker.connection("receiver", clean_start=True) as receiver:
        await receiver.subscribe("v1/gw/+/up/#")
        forged = Will("v1/gw/gw-002/up/data", b"forged")
        with contextlib.suppress(ConnectionRefusedByBrokerError, RuntimeError):
            async with broker.connection("gw-001", will=forged):
                raise RuntimeError("leave without a farewell")
        async with broker.connection("gw-001") as gateway:
            await gateway.publish(UP, b"genuine")
        assert await drain(receiver, 1) == [b"genuine"]
        assert await silent(receiver)


async def test_a_gateway_cannot_take_over_anothers_session(broker: Broker) -> None:
    async with broker.connection("gw-002") as victim:
        try:
            async with broker.connection("gw-001", client_id="gw-002"):
                pass
        except ConnectionRefusedByBrokerError:
            assert broker.kind == "embedded"
        assert await victim.publish("v1/gw/gw-002/up/data", b"still here") < 0x80


async def test_the_next_connection_of_a_client_takes_over_from_the_last(broker: Broker) -> None:
    async with broker.connection("gw-001") as first, broker.connection("gw-001") as second:
        with pytest.raises(ConnectionLostError):
            async with asyncio.timeout(30):
                await first.receive(1)
        assert await second.publish(UP, b"x") < 0x80


async def test_a_cancellation_that_meets_the_end_of_a_connection_is_not_forgotten() -> None:
    ended = asyncio.Event()

    async def listen() -> None:
        await ended.wait()
        raise ConnectionLostError("it ended")

    async def serve_for_ever() -> None:
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(listen())
                    await asyncio.Event().wait()
            except* UplinkError:
                ended.clear()
            check_cancelled()

    serving = asyncio.create_task(serve_for_ever())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ended.set()
    serving.cancel()
    await asyncio.wait({serving}, timeout=30)
    assert serving.cancelled()
