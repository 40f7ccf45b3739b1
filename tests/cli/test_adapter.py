"""A gateway whose Bluetooth cannot be used: what `status` and `scan` say, on a real bus and without one."""

import asyncio
import shutil
from pathlib import Path

import pytest

from .conftest import Bedside


@pytest.fixture
async def bluez(bedside: Bedside) -> Bedside:
    """A bedside whose daemon is to use `hci0`; it does not run yet."""
    await bedside.stop()
    text = bedside.site.gateway_config.read_text()
    bedside.site.gateway_config.write_text(text.replace(f"virtual:{bedside.site.radio}", "hci0"))
    return bedside


async def told(bedside: Bedside) -> tuple[str, str]:
    """What is red, and why nothing can be looked for."""
    await bedside.start()
    async with asyncio.timeout(60):
        while "red    Bluetooth" not in (status := (await bedside.run("status")).out):
            pass
    scan = await bedside.run("devices", "scan", "--seconds", "1")
    assert scan.status == 1
    return " ".join(status.split()), scan.err


async def test_without_d_bus_it_says_so(bluez: Bedside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={Path.cwd()}/nothing")
    status, scan = await told(bluez)
    assert "is dbus running?" in status
    assert "is dbus running?" in scan


async def test_without_bluetoothd_it_says_how_to_look_after_it(bluez: Bedside, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon is not installed")
    address = f"unix:path={Path.cwd()}/bus"
    bus = await asyncio.create_subprocess_exec(
        "dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}", stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(60):
            while not Path("bus").exists():  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.05)
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        status, scan = await told(bluez)
    finally:
        bus.terminate()
        await bus.wait()
    assert "bluetoothd does not run: systemctl status bluetooth" in status
    assert "bluetoothd does not run: systemctl status bluetooth" in scan
