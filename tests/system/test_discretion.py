"""The whole path at work, with trouble: no log and no support bundle tells who was measured, or what, or a secret."""

import asyncio
import json
import re
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.lab.brokers import EmbeddedBroker
from gateway.lab.rig import Rig
from gateway.lab.site import Site, free_port

DEADLINE_S = 60.0
NAME = "Mrs Ottilie Abernathy"
SERIAL = "SN-77-4711-0815"
COUNTS = {
    *("uptime_s", "bundles_waiting", "bytes_waiting", "oldest_waiting_s", "outbox_hours_left", "card_years"),
    *("records_sealed", "bundles_acknowledged", "bundles_receipted", "bundles_parked", "key_list_serial"),
    *("bundles", "bytes", "records", "waiting_bundles", "waiting_bytes", "battery_pct", "rssi_dbm"),
    *("clock_behind_s", "clock_drift_ppm", "heard_s", "value_s"),
}
LOUD = '[log]\nlevel = "debug"\n'


class Told:
    """What the run sent, and every way to write it."""

    def __init__(self, rig: Rig) -> None:
        lines = [json.loads(line) for line in rig.site.ledger.read_text().splitlines()]
        measured = [line for line in lines if "values" in line]
        self.values = {value for line in measured for value in line["values"].values() if value is not None}
        self.identifiers = {
            NAME,
            SERIAL,
            *(line["session"] for line in measured if line["session"]),
            *rig.streams.values(),
        }
        for address in rig.devices:
            plain = address.replace(":", "")
            self.identifiers |= {address, plain, address.replace(":", "_"), address.replace(":", "-")}
        self.secrets = set(self._secrets(rig.site))

    @staticmethod
    def _secrets(site: Site) -> Iterator[str]:
        """Every private key, as its file has it and as octets in hexadecimal."""
        for path in site.pki.rglob("*.key"):
            yield from (line for line in path.read_text().splitlines() if "-----" not in line)
        for bond in json.loads(site.bonds.read_text()).values():
            yield bond["ltk"]["value"]

    def found_in(self, text: str) -> list[str]:
        """Identifiers and secrets, however they are written, and values that stand alone as a number."""
        lowered = text.lower()
        found = [word for word in self.identifiers | self.secrets if word.lower() in lowered]
        numbers = set(re.findall(r"(?<![\w.:-])\d+(?:\.\d+)?(?![\w.:-])", text))
        return found + sorted(numbers & self.values)


def uncounted(value: Any) -> Any:
    """JSON without what is known to count something else, and may be as high as a pulse is."""
    if isinstance(value, dict):
        return {key: uncounted(each) for key, each in value.items() if key not in COUNTS}
    return [uncounted(each) for each in value] if isinstance(value, list) else value


async def command(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli.gateway", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def until_stored(rig: Rig, count: int) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while len(rig.cloud.rows()) < count:
        assert time.monotonic() < deadline_s, "no reading is stored"
        await asyncio.sleep(0.1)


def name_a_wearable(rig: Rig) -> None:
    """One has a person's name, and a serial number."""
    path = rig.site.gateway_state / "devices.json"
    document = json.loads(path.read_text())
    document["devices"][0] |= {"name": NAME, "identity": {"serial": SERIAL, "make": "Acme"}}
    path.write_text(json.dumps(document))


async def test_neither_logs_nor_a_support_bundle_tell_of_patients_or_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # paths of Unix sockets are short
    site = Site(Path(), broker_port=free_port(), uplink_port=free_port())
    rig = Rig(site, EmbeddedBroker(site), gateway_extra=LOUD)
    config = ("--config", str(site.gateway_config))
    async with rig.at_work():
        await until_stored(rig, 10)
        rig.proxy.cut()
        await rig.kill_gateway()
        name_a_wearable(rig)  # its serial number is another now: it is quarantined
        await rig.start_gateway()
        await rig.children["wearables"].kill()
        await rig._start_wearables()
        rig.proxy.mend()
        await until_stored(rig, len(rig.cloud.rows()) + 10)
        await command("support-bundle", *config, "up.tar.gz")
        told = Told(rig)
    await command("support-bundle", *config, "down.tar.gz")

    assert len(told.values) > 5
    assert len(told.secrets) > 5
    gateway, receiver = ((site.logs / f"{side}.log").read_text() for side in ("gateway", "receiver"))
    assert "quarantined" in gateway
    assert "..:01" in gateway, "which wearable can be told"
    for line in (gateway + receiver).splitlines():
        event = json.loads(line)
        del event["time"]
        assert told.found_in(json.dumps(event)) == [], line

    for name, status in (("up.tar.gz", "bundles_waiting"), ("down.tar.gz", "not there")):
        with tarfile.open(name) as archive:
            files = {each.name: archive.extractfile(each) for each in archive.getmembers()}
            parts = {path: file.read().decode() for path, file in files.items() if file}
        assert Path(name).stat().st_mode & 0o077 == 0
        assert status in parts["support/status.json"]
        assert "Acme" in parts["support/wearables.json"]
        for path, text in parts.items():
            assert [each for each in told.found_in(text) if each not in told.values] == [], (name, path)
        for path in ("support/status.json", "support/wearables.json", "support/outbox.json"):
            if name == "up.tar.gz":
                assert told.found_in(json.dumps(uncounted(json.loads(parts[path])))) == [], path
        assert "iomt_gateway_build_info" in parts["support/metrics.txt"] or name == "down.tar.gz"
