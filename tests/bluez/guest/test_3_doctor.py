"""What the doctor gathers of Bluetooth, where there is a kernel with an adapter, rfkill and bluetoothd."""

from pathlib import Path

from packaging.version import Version

from gateway.control.doctor.findings import Level
from gateway.control.doctor.hardware import radio_facts
from gateway.control.doctor.radio import radio

from .conftest import Ward


async def test_it_sees_the_adapter_as_linux_and_bluez_show_it(ward: Ward) -> None:
    await ward.gateway()
    facts = await radio_facts("hci0")
    assert (facts.present, facts.blocked, facts.powered, facts.refusal) == (True, (), True, "")
    assert facts.bluez is not None
    assert Version(facts.bluez) >= Version("5.66")
    assert {each.level for each in radio(facts)} == {Level.OK}


async def test_it_sees_an_adapter_that_is_blocked(ward: Ward) -> None:  # noqa: ARG001 - it is the ward's
    [switch] = Path("/sys/class/bluetooth/hci0").glob("rfkill*")
    (switch / "soft").write_text("1")
    try:
        assert (await radio_facts("hci0")).blocked == ("soft",)
    finally:
        (switch / "soft").write_text("0")


async def test_it_sees_that_there_is_no_such_adapter(ward: Ward) -> None:  # noqa: ARG001 - it is the ward's
    facts = await radio_facts("hci7")
    assert (facts.present, facts.powered) == (False, None)
    assert facts.refusal
