"""A box that is gone, and a new one made of its backup: nothing is lost or forked, and a clone is found out."""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.lab.brokers import EmbeddedBroker
from gateway.lab.process import Child
from gateway.lab.rig import Rig
from gateway.lab.site import GATEWAY, Site, free_port

DEADLINE_S = 60.0


async def command(program: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"gateway.cli.{program}", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode() + said.decode()
    return said.decode()


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        await asyncio.sleep(0.1)


async def carry_the_backlog(rig: Rig, config: str) -> None:
    """What the old box had not delivered goes by hand; the old card can still be read."""
    await command("gateway", "outbox", "export", "backlog", "--config", config)
    await rig.children["receiver"].stop()
    await command("receiver", "import", "backlog", "--config", str(rig.site.receiver_config))
    await rig.start_receiver()


def move_away(site: Site) -> Path:
    """The old box, with everything that it had, is somewhere else now; its radio stays here."""
    old = Path("old-box")
    shutil.copytree(site.pki, old / "pki")
    shutil.rmtree(site.pki / "gateways")
    site.gateway_state.rename(old / "gateway-state")
    text = site.gateway_config.read_text().replace(f"virtual:{site.radio}", "none")
    (old / "gateway.toml").write_text(text)
    site.gateway_config.unlink()
    return old / "gateway.toml"


async def test_a_box_made_of_a_backup_goes_on_where_the_old_one_ended_and_two_boxes_are_a_fork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # paths of Unix sockets are short
    site = Site(Path(), broker_port=free_port(), uplink_port=free_port())
    rig = Rig(site, EmbeddedBroker(site))
    config, receiver = str(site.gateway_config), str(site.receiver_config)
    async with rig.at_work():
        await until(lambda: len(rig.cloud.rows()) > 10, "no reading is stored")
        await command("receiver", "backup-key", "operator.key")
        await command("gateway", "backup", "--to", "operator.key.pub", "--config", config, "backup")
        await asyncio.sleep(2)  # it goes on
        await rig.kill_gateway()
        await carry_the_backlog(rig, config)
        old = move_away(site)

        heads = (await command("receiver", "heads", GATEWAY, "--config", receiver)).split()
        assert heads[0] == "--after"
        await command("gateway", "restore", "--key", "operator.key", "--config", config, *heads, "backup")
        await rig.start_gateway()
        await rig.kill_gateway()
        await rig.start_gateway()  # what the first start wrote is read: nothing is thought lost
        verdict = await rig.settle(outages=0, settle_s=DEADLINE_S, show=lambda: None)
        assert verdict.passed, verdict
        assert rig.cloud.events("eviction") == []
        told = [details[0] for details in rig.cloud.events("security")]
        assert told == ["restored"], "the receiver hears of it once"
        audit = json.loads(await command("receiver", "audit", "--json", "--config", receiver))
        assert audit["unexplained"] == 0
        assert rig.cloud.quarantined() == 0, "nor is anything forked"

        clone = await Child.serve("clone", "gateway.cli.gateway", "run", "--config", str(old), logs=site.logs)
        try:
            await until(lambda: rig.cloud.quarantined() > 0, "the receiver takes two boxes for one")
        finally:
            await clone.stop()
