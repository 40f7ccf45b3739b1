"""What looks after the adapter and what listens say that they get on, with an adapter or without, until they hang."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.ble import bluetooth
from gateway.lab.radio import VirtualRadio

from .conftest import Gateway, Ward, until

HUNG_S = 1.0


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bluetooth, "_ACT_S", 0.2)
    monkeypatch.setattr(bluetooth, "_RESCAN_S", 0.2)


async def never(*_: object) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def endless(*_: object) -> AsyncIterator[None]:
    await never()
    yield


async def renewed(gateway: Gateway, name: str) -> None:
    """Its promise is made again and again."""
    pulse = gateway.bluetooth.pulses[name]
    for _ in range(3):
        before_s = pulse._due_s or 0.0
        await until(lambda before_s=before_s: (pulse._due_s or 0.0) > before_s)


async def hung(gateway: Gateway, name: str) -> None:
    await until(lambda: gateway.bluetooth.pulses[name].late_s() > HUNG_S)


async def test_without_an_adapter_they_get_on(ward: Ward) -> None:
    await ward.assign("cgm")
    await ward.air.close()
    gateway = await ward.gateway()
    await renewed(gateway, "adapter")
    assert gateway.bluetooth.pulses["scan"]._due_s is None


async def test_with_one_and_nothing_to_hear_they_get_on(ward: Ward) -> None:
    await ward.assign("cgm")
    await ward.cgm.device.stop_advertising()
    gateway = await ward.gateway(adapter_silent_s=0.8)
    await renewed(gateway, "adapter")
    await renewed(gateway, "scan")


async def test_where_nothing_is_to_be_heard_nothing_is_promised(ward: Ward) -> None:
    gateway = await ward.gateway(adapter_silent_s=0.8)
    await until(lambda: gateway.bluetooth.adapter_up is True)
    await renewed(gateway, "adapter")
    assert gateway.bluetooth.pulses["scan"]._due_s is None


async def test_an_adapter_that_went_leaves_no_promise_to_listen(ward: Ward) -> None:
    await ward.assign("cgm")
    await ward.cgm.device.stop_advertising()
    gateway = await ward.gateway(adapter_silent_s=8.0)
    await renewed(gateway, "scan")
    await ward.air.close()
    await until(lambda: gateway.bluetooth.adapter_up is False)
    assert gateway.bluetooth.pulses["scan"]._due_s is None


async def test_an_adapter_that_is_being_opened_for_ever_is_a_stall(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VirtualRadio, "open", never)
    await hung(await ward.gateway(), "adapter")


async def test_a_reset_that_does_not_end_is_a_stall(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VirtualRadio, "reset", never)
    await ward.assign("cgm")
    for wearable in (ward.cgm, ward.meter, ward.oximeter):
        await wearable.device.stop_advertising()
    await hung(await ward.gateway(adapter_silent_s=0.2), "adapter")


async def test_a_scan_that_does_not_begin_is_a_stall(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VirtualRadio, "scan", endless)
    await ward.assign("cgm")
    await hung(await ward.gateway(), "scan")
