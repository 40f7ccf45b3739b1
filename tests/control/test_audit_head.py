"""The audit log's head travels to the cloud with the data: a person compares the log with what is stored there."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from gateway.control.audit import verify
from gateway.lab.brokers import EmbeddedBroker
from gateway.lab.cloud import Cloud
from gateway.lab.devices import CGM_ADDRESS
from gateway.lab.process import Child
from gateway.lab.proxy import Proxy

from .conftest import gateway_with


async def run(program: str, *arguments: str) -> str:
    """What a command prints that succeeds."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"gateway.cli.{program}", *arguments), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_the_head_is_stored_in_the_cloud_and_found_again_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with gateway_with(CGM_ADDRESS) as bedside, asyncio.timeout(120):
        site = bedside.site
        broker = await EmbeddedBroker(site).start()
        receiver = await Child.serve(
            "receiver", "gateway.cli.receiver", "run", "--config", str(site.receiver_config), logs=site.logs
        )
        await bedside.call("POST", f"/v1/devices/{CGM_ADDRESS}/rename", {"name": "bed 4"})
        await bedside.call("POST", f"/v1/devices/{CGM_ADDRESS}/unassign")
        *_, (_, head) = verify(site.gateway_state / "audit.jsonl")
        async with Proxy(listen=site.uplink_port, to=site.broker_port):
            while [head.hex(), 4] not in Cloud(site.receiver_state).events("audit-head"):  # noqa: ASYNC110 - a database
                await asyncio.sleep(0.1)
        report = json.loads(await run("receiver", "audit", "--config", str(site.receiver_config), "--json"))
        [gateway] = report["gateways"].values()
        assert gateway["audit_log"] == {"entries": 4, "head": head.hex(), "changes": []}
        await run("gateway", "audit", "verify", "--head", gateway["audit_log"]["head"], "--config", "gateway.toml")
        await receiver.stop()
        await broker.stop()
