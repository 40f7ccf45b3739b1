"""bleak over bumble: what a gateway may expect of its radio, against a wearable that demands security."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bleak import BleakClient, BleakScanner
from bleak.exc import BleakError, BleakGATTProtocolError
from bumble.pairing import PairingConfig, PairingDelegate

from gateway.ble.pairing import Method, Prompt, Security
from gateway.errors import AdapterError, BondError, ConfigError, PairingError
from gateway.lab.air import Air
from gateway.lab.bumble_backend import BumbleScanner
from gateway.lab.pairing import Wearer
from gateway.lab.peripheral import LedgerWriter, Peripheral
from gateway.lab.radio import VirtualRadio

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
        self.prompts: list[Prompt] = []

    async def radio(self) -> VirtualRadio:
        radio = VirtualRadio(self.socket, self.bonds)
        self.gone = await radio.open(self.ask)
        self.radios.append(radio)
        return radio

    async def ask(self, prompt: Prompt) -> int:
        """A person who says yes to everything, and reads the wearable's display."""
        self.prompts.append(prompt)
        if prompt.method is Method.ENTER:
            while self.wearable.wearer.shown is None:  # noqa: ASYNC110 - a display knows no event
                await asyncio.sleep(0.005)
            return self.wearable.wearer.shown
        return 0


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


async def connect(radio: VirtualRadio) -> BleakClient:
    return await radio.connect(ADDRESS, timeout_s=30, on_disconnect=lambda: None)


async def test_every_value_and_every_subscription_is_refused_before_pairing(site: Site) -> None:
    radio = await site.radio()
    client = await connect(radio)
    assert await radio.security(client) is Security.NONE
    with pytest.raises(BleakGATTProtocolError) as read:
        await client.read_gatt_char(uuid(VALUE))
    with pytest.raises(BleakGATTProtocolError) as subscribe:
        await client.start_notify(uuid(STREAM), lambda *_: None)
    assert {read.value.code, subscribe.value.code} == {INSUFFICIENT_AUTHENTICATION}


@pytest.mark.parametrize(
    ("io", "method", "security"),
    [
        (PairingDelegate.DISPLAY_OUTPUT_AND_YES_NO_INPUT, Method.COMPARE, Security.AUTHENTICATED),
        (PairingDelegate.DISPLAY_OUTPUT_ONLY, Method.ENTER, Security.AUTHENTICATED),
        (PairingDelegate.NO_OUTPUT_NO_INPUT, Method.JUST_WORKS, Security.ENCRYPTED),
    ],
)
async def test_tells_what_each_way_of_pairing_is_worth(
    site: Site, io: PairingDelegate.IoCapability, method: Method, security: Security
) -> None:
    site.wearable.wearer = Wearer(io)
    radio = await site.radio()
    client = await connect(radio)
    assert await radio.pair(client) is security
    assert [(prompt.address, prompt.method) for prompt in site.prompts] == [(ADDRESS, method)]
    assert await client.read_gatt_char(uuid(VALUE)) == b"\x01\x02"


async def test_what_a_person_types_on_the_wearable_is_what_this_side_shows(site: Site) -> None:
    site.wearable.wearer = Wearer(PairingDelegate.KEYBOARD_INPUT_ONLY)

    async def ask(prompt: Prompt) -> int:
        site.wearable.wearer.type(prompt.number)
        return 0

    site.ask = ask
    radio = await site.radio()
    assert await radio.pair(await connect(radio)) is Security.AUTHENTICATED


async def test_just_works_opens_nothing_on_a_wearable_that_can_do_better(site: Site) -> None:
    radio = await site.radio()
    radio.host.pairing_config_factory = lambda _: PairingConfig(
        sc=True, mitm=False, delegate=PairingDelegate(PairingDelegate.NO_OUTPUT_NO_INPUT)
    )
    client = await connect(radio)
    assert await radio.pair(client) is Security.ENCRYPTED
    with pytest.raises(BleakGATTProtocolError) as refused:
        await client.read_gatt_char(uuid(VALUE))
    assert refused.value.code == INSUFFICIENT_AUTHENTICATION


async def test_legacy_pairing_is_not_accepted(site: Site) -> None:
    site.wearable.device.pairing_config_factory = lambda _: PairingConfig(sc=False, delegate=site.wearable.wearer)
    radio = await site.radio()
    with pytest.raises(PairingError, match="Secure Connections"):
        await radio.pair(await connect(radio))


async def test_a_bond_outlives_the_radio_and_opens_values_without_pairing_again(site: Site) -> None:
    radio = await site.radio()
    await radio.pair(await connect(radio))
    await radio.close()
    again = await site.radio()
    assert await again.bonded(ADDRESS)
    client = await connect(again)
    assert await again.security(client) is Security.AUTHENTICATED
    assert await client.read_gatt_char(uuid(VALUE)) == b"\x01\x02"


async def test_notifications_arrive_in_order_and_subscriptions_are_forgotten_with_the_link(site: Site) -> None:
    radio = await site.radio()
    client = await connect(radio)
    await radio.pair(client)
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    await client.start_notify(uuid(STREAM), lambda _, value: heard.put_nowait(bytes(value)))
    for number in range(20):
        await site.wearable.notify(site.stream, bytes([number]))
    async with asyncio.timeout(30):
        assert [await heard.get() for _ in range(20)] == [bytes([number]) for number in range(20)]
    await client.disconnect()
    await connect(radio)
    assert site.wearable.subscribers(site.stream) == []


async def test_a_link_that_ends_during_a_read_is_an_error_and_not_a_cancellation(site: Site) -> None:
    radio = await site.radio()
    gone = asyncio.Event()
    client = await radio.connect(ADDRESS, timeout_s=30, on_disconnect=gone.set)
    site.air.cut()
    with pytest.raises(BleakError):
        await client.read_gatt_char(uuid(VALUE))
    assert gone.is_set()
    assert not client.is_connected
    async with asyncio.timeout(30):
        await site.gone


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
    gone = site.gone
    await connect(first)
    second = await site.radio()
    async with asyncio.timeout(30):
        await gone
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
        lambda _, data: uuid(0x1822) in data.service_uuids, timeout=30.0, backend=BumbleScanner, host=radio.host
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


async def test_an_air_where_nobody_listens_is_an_adapter_that_is_missing(tmp_path: Path) -> None:
    radio = VirtualRadio(tmp_path / "hci.sock", tmp_path / "bonds.json")
    with pytest.raises(AdapterError, match="no virtual radio"):
        await radio.open(lambda _: asyncio.sleep(0))
    with pytest.raises(AdapterError, match="not in use"):
        radio.scan(lambda _: None)


@pytest.mark.parametrize("turns", range(0, 60, 6))
async def test_an_attempt_that_is_given_up_leaves_no_link_and_the_next_one_succeeds(site: Site, turns: int) -> None:
    radio = await site.radio()
    attempt = asyncio.create_task(radio.connect(ADDRESS, timeout_s=30, on_disconnect=lambda: None))
    for _ in range(turns):
        await asyncio.sleep(0)
    if attempt.cancel():
        with pytest.raises(asyncio.CancelledError):
            await attempt
        async with asyncio.timeout(20):
            while site.wearable.device.connections:  # noqa: ASYNC110 - a link that ends
                await asyncio.sleep(0.01)
    else:
        await (await attempt).disconnect()
    client = await radio.connect(ADDRESS, timeout_s=20, on_disconnect=lambda: None)
    assert client.is_connected
    await client.disconnect()
