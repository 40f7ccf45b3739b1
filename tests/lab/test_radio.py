"""bleak over bumble: what a gateway may expect of its radio, against a wearable that demands security."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bleak import BleakClient, BleakScanner
from bleak.exc import BleakError, BleakGATTProtocolError
from bumble.pairing import PairingConfig, PairingDelegate

from gateway.errors import BondError, ConfigError, LinkError
from gateway.lab.air import Air
from gateway.lab.bumble_backend import BumbleScanner
from gateway.lab.peripheral import LedgerWriter, Peripheral
from gateway.lab.radio import VirtualRadio, open_radio

ADDRESS = "F0:00:00:00:07:01"
VALUE, STREAM = 0x2A60, 0x2A5F
INSUFFICIENT_AUTHENTICATION = 0x05


def uuid(number: int) -> str:
    return f"0000{number:04x}-0000-1000-8000-00805f9b34fb"


class Site:
    """An air with one wearable in it, and the gateway's radio, which can be opened again."""

    def __init__(self, directory: Path) -> None:
        self.air = Air()
        self.ledger = LedgerWriter(directory / "ledger.jsonl")
        self.wearable = Peripheral(self.air.link, name="oximeter", address=ADDRESS, service=0x1822, ledger=self.ledger)
        self.stream = self.wearable.notifying(STREAM)
        self.wearable.add_service(0x1822, self.wearable.readable(VALUE, lambda: b"\x01\x02"), self.stream)
        self.socket = directory / "air" / "hci.sock"
        self.bonds = directory / "bonds.json"
        self.radios: list[VirtualRadio] = []

    async def radio(self) -> VirtualRadio:
        radio = await open_radio(self.socket, self.bonds)
        self.radios.append(radio)
        return radio


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    await site.air.serve(site.socket)
    await site.wearable.start()
    yield site
    for radio in site.radios:
        await radio.close()
    await site.air.close()
    await site.wearable.stop()
    site.ledger.close()


async def connect(radio: VirtualRadio, *, timeout_s: float = 5.0) -> BleakClient:
    return await radio.connect(ADDRESS, timeout_s=timeout_s, on_disconnect=lambda: None)


async def test_every_value_and_every_subscription_is_refused_before_pairing(site: Site) -> None:
    radio = await site.radio()
    client = await connect(radio)
    assert not await radio.authenticated(client)
    with pytest.raises(BleakGATTProtocolError) as read:
        await client.read_gatt_char(uuid(VALUE))
    with pytest.raises(BleakGATTProtocolError) as subscribe:
        await client.start_notify(uuid(STREAM), lambda *_: None)
    assert {read.value.code, subscribe.value.code} == {INSUFFICIENT_AUTHENTICATION}


async def test_just_works_pairing_encrypts_but_opens_nothing(site: Site) -> None:
    radio = await site.radio()
    radio.host.pairing_config_factory = lambda _: PairingConfig(
        sc=True, mitm=False, delegate=PairingDelegate(PairingDelegate.NO_OUTPUT_NO_INPUT)
    )
    client = await connect(radio)
    with pytest.raises(LinkError, match="no authenticated bond"):
        await radio.pair(client)
    with pytest.raises(BleakGATTProtocolError) as refused:
        await client.read_gatt_char(uuid(VALUE))
    assert refused.value.code == INSUFFICIENT_AUTHENTICATION


async def test_a_bond_outlives_the_radio_and_opens_values_without_pairing_again(site: Site) -> None:
    radio = await site.radio()
    await radio.pair(await connect(radio))
    await radio.close()
    again = await site.radio()
    assert await again.bonded(ADDRESS)
    client = await connect(again)
    assert await again.authenticated(client)
    assert await client.read_gatt_char(uuid(VALUE)) == b"\x01\x02"


async def test_notifications_arrive_in_order_and_subscriptions_are_forgotten_with_the_link(site: Site) -> None:
    radio = await site.radio()
    client = await connect(radio)
    await radio.pair(client)
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    await client.start_notify(uuid(STREAM), lambda _, value: heard.put_nowait(bytes(value)))
    for number in range(20):
        await site.wearable.notify(site.stream, bytes([number]))
    async with asyncio.timeout(5):
        assert [await heard.get() for _ in range(20)] == [bytes([number]) for number in range(20)]
    await client.disconnect()
    await connect(radio)
    assert site.wearable.subscribers(site.stream) == []


async def test_a_link_that_ends_during_a_read_is_an_error_and_not_a_cancellation(site: Site) -> None:
    radio = await site.radio()
    gone = asyncio.Event()
    client = await radio.connect(ADDRESS, timeout_s=5.0, on_disconnect=gone.set)
    site.air.cut()
    with pytest.raises(BleakError):
        await client.read_gatt_char(uuid(VALUE))
    assert gone.is_set()
    assert not client.is_connected
    async with asyncio.timeout(1):
        await radio.lost


async def test_an_absent_wearable_costs_its_timeout_and_no_more(site: Site) -> None:
    radio = await site.radio()
    with pytest.raises(BleakError, match="does not answer"):
        await radio.connect("F0:00:00:00:07:77", timeout_s=0.2, on_disconnect=lambda: None)
    assert (await connect(radio)).is_connected


async def test_a_wearable_that_forgot_its_bond_is_named_as_such(site: Site) -> None:
    radio = await site.radio()
    client = await connect(radio)
    await radio.pair(client)
    await client.disconnect()
    await site.wearable.forget_bonds()
    with pytest.raises(BondError, match="has forgotten its bond"):
        await connect(radio)


async def test_a_second_gateway_takes_the_radio_from_the_first(site: Site) -> None:
    first = await site.radio()
    await connect(first)
    second = await site.radio()
    async with asyncio.timeout(1):
        await first.lost
    assert (await connect(second)).is_connected


async def test_garbage_on_the_socket_ends_that_attachment_alone(site: Site) -> None:
    _, writer = await asyncio.open_unix_connection(site.socket)
    writer.write(b"\xff" * 100)
    await writer.drain()
    writer.close()
    assert (await connect(await site.radio())).is_connected


async def test_the_scanner_finds_wearables_by_service(site: Site) -> None:
    radio = await site.radio()
    found = await BleakScanner.find_device_by_filter(
        lambda _, data: uuid(0x1822) in data.service_uuids, timeout=2.0, backend=BumbleScanner, host=radio.host
    )
    assert found
    assert (found.address, found.name) == (ADDRESS, "oximeter")


async def test_bonds_lie_in_a_file_that_only_the_owner_can_read(site: Site) -> None:
    radio = await site.radio()
    await radio.pair(await connect(radio))
    assert stat.S_IMODE(site.bonds.stat().st_mode) == 0o600


async def test_a_damaged_file_of_bonds_is_named(site: Site) -> None:
    site.bonds.write_text('{"F0:00:00:00:07:01": 3}')
    with pytest.raises(ConfigError, match="bonds"):
        await site.radio()


async def test_an_air_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        await Air().serve(tmp_path / "open" / "hci.sock")
