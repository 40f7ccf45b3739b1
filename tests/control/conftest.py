"""A whole gateway over a virtual radio, and its control socket."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.config import GatewayConfig, load
from gateway.control import api
from gateway.control.audit import verify
from gateway.lab.air import Air
from gateway.lab.bonds import BondStore
from gateway.lab.devices import Cgm, CgmPace
from gateway.lab.peripheral import LedgerWriter
from gateway.lab.radio import VirtualRadio
from gateway.lab.site import Site, build, free_port
from gateway.supervisor import Gateway


@dataclass
class Bedside:
    daemon: Gateway
    cgm: Cgm
    site: Site

    @property
    def socket(self) -> Path:
        return api.socket_of(self.daemon.config)

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        reader, writer = await asyncio.open_unix_connection(self.socket)
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        try:
            answer = await reader.read()
        finally:
            writer.close()
        head, _, content = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(content)

    def emitted(self, sequence: int) -> str:
        """What the monitor measured then."""
        lines = [json.loads(line) for line in self.site.ledger.read_text().splitlines()]
        [values] = [line["values"] for line in lines if line.get("sequence") == sequence]
        return next(iter(values.values()))

    def acts(self) -> list[tuple[str, str]]:
        return [(entry["act"], entry["outcome"]) for entry, _ in verify(self.site.gateway_state / "audit.jsonl")]


@asynccontextmanager
async def gateway_with(*devices: str, **sections: dict[str, Any]) -> AsyncIterator[Bedside]:
    """One that runs in the current directory and knows `devices`, monitors; what is given of `sections` is changed."""
    site = Site(Path(), broker_port=free_port(), uplink_port=free_port())
    build(site, devices=dict.fromkeys(devices, "cgm"), gateway_extra="[outbox]\noffline_tick_ms = 10\n")
    air, ledger = Air(), LedgerWriter(site.ledger)
    cgm = Cgm(air.link, ledger=ledger, seed=1, pace=CgmPace(session_age_s=3600, lag_min=30, interval_min=1))
    if keys := await BondStore(site.bonds).get(cgm.address):
        await cgm.take_bond(keys)
    await air.serve(site.radio)
    await cgm.start()
    config = load(site.gateway_config, GatewayConfig)
    changed = {name: getattr(config, name).model_copy(update=keys) for name, keys in sections.items()}
    daemon = Gateway(config.model_copy(update=changed))
    task = asyncio.create_task(daemon.run(VirtualRadio(site.radio, site.bonds)))
    async with asyncio.timeout(20):
        while not (daemon.bluetooth and daemon.bluetooth.adapter_up):  # noqa: ASYNC110 - knows no event
            await asyncio.sleep(0.01)
    try:
        yield Bedside(daemon, cgm, site)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await task
        await air.close()
        await cgm.stop()
        ledger.close()


@pytest.fixture
async def bedside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bedside]:
    monkeypatch.chdir(tmp_path)
    async with gateway_with() as bedside:
        yield bedside
