"""A site in the container, set up as its administrator would, with wearables on a virtual air."""

import json
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.lab.bonds import bond_beforehand
from gateway.lab.cloud import Cloud
from gateway.lab.ledger import Ledger
from gateway.lab.verdict import Kill, Verdict, judge
from gateway.lab.wearables import roster
from gateway.outbox.outbox import list_bundles
from tests.nspawn.container import TREE, Container, until

GATEWAY = "gw-001"
SITE = "/var/lib/iomt-site"
STATE = "/var/lib/iomt-gateway"
CONFIG = "/etc/iomt-gateway/gateway.toml"
GATEWAY_CLI = "/usr/lib/iomt-gateway/bin/iomt-gateway"
RECEIVER_CLI = "/usr/lib/iomt-receiver/bin/iomt-receiver"
_AIR = "/var/lib/air"
_ASK = """
import http.client, socket, sys
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("GET", "/v1/status")
print(connection.getresponse().read().decode())
"""


class Site:
    """Everything runs after `set_up`, under exactly the shipped units."""

    tree = TREE

    def __init__(self, box: Container) -> None:
        self.box = box
        self.cloud = Cloud(self.path(f"{SITE}/receiver/state"))
        self.devices = roster(3)
        self.streams: dict[str, str] = {}
        self._kills: list[Kill] = []
        self._listed: dict[tuple[bytes, int], int] = {}

    def path(self, inside: str) -> Path:
        """Where a path of the container lies, seen from outside."""
        return self.box.root / inside.lstrip("/")

    def set_up(self) -> None:
        """From nothing to readings of wearables in the receiver's store."""
        made = json.loads(self._receiver("init", SITE, "--host", "localhost", "--gateway", GATEWAY, "--json"))
        (start,) = made["run"]
        self.box.run(*start.split())
        assert "Next: systemctl start iomt-gateway\n" in self.box.run(GATEWAY_CLI, *made["enrol"].split()[1:])
        config = self.path(CONFIG)
        text = config.read_text().replace(
            '# adapter = "hci0"', f'adapter = "virtual:{_AIR}/hci.sock"\nretry_max_s = 1.0'
        )
        config.write_text(text.replace('# believe = "auto"', 'believe = "system"'))
        self._pair()
        self._put_on_the_air()
        self.box.run("systemctl", "start", "iomt-gateway")

    def kill_gateway(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal that it cannot answer, and remember what is on its disk then."""
        exposure_ms = 2000.0 + 1000.0  # outbox.offline_tick_ms, and a slow sync
        self.box.run("systemctl", "kill", "--kill-whom=main", f"--signal={number.name}", "iomt-gateway")
        self._kills.append(Kill(time.time_ns() // 1_000_000, exposure_ms))
        own = set(self.streams.values())
        for link, spans in list_bundles(self.path(f"{STATE}/outbox")):
            self._listed[link.chain, link.no] = sum(span.count for span in spans if span.stream.hex() in own)

    def asks(self, user: str, *, socket: str = f"{STATE}/control.sock") -> dict[str, Any]:
        """What the gateway answers somebody who wants to know how it is."""
        answer: dict[str, Any] = json.loads(self.box.run("runuser", "-u", user, "--", "python3", "-c", _ASK, socket))
        return answer

    def restarts(self, service: str) -> int:
        """How often systemd started a service again by itself."""
        return int(self.box.show(service, "NRestarts"))

    def wait_for_restart(self, service: str, restarts: int) -> None:
        """Until a service that was restarted so often before is up again."""
        until(
            lambda: self.restarts(service) > restarts and self.box.show(service, "ActiveState") == "active",
            lambda: self.box.journal(service),
        )

    @contextmanager
    def drop_in(self, service: str, text: str) -> Iterator[None]:
        """Let a service run with other settings."""
        path = self.path(f"/etc/systemd/system/{service}.service.d/test.conf")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        self.box.run("systemctl", "daemon-reload")
        self.box.run("systemctl", "restart", service)
        try:
            yield
        finally:
            path.unlink()
            self.box.run("systemctl", "daemon-reload")
            self.box.run("systemctl", "restart", "--no-block", service)

    def judged(self) -> Verdict:
        """What became of everything that the wearables measured until now, as soon as nothing is under way."""
        ledger = Ledger(self.path(f"{_AIR}/ledger.jsonl"))
        until_ms = time.time_ns() // 1_000_000
        verdict: list[Verdict] = []

        def settled() -> bool:
            ledger.read()
            committed = self.cloud.bundles()
            missing = sum(count for bundle, count in self._listed.items() if bundle not in committed)
            verdict[:] = [
                judge(
                    ledger.emissions,
                    self.cloud.rows(),
                    until_ms=until_ms,
                    kills=self._kills,
                    outages=0,
                    captured=sum(self._listed.values()),
                    missing_after_fsync=missing,
                    explained=self.cloud.gaps(self.streams.values()),
                    quarantined=self.cloud.quarantined(),
                    clock_offsets_ms=[0],
                )
            ]
            return verdict[0].passed

        until(settled, lambda: f"{verdict[0]}\n{self.box.journal('iomt-gateway')}")
        return verdict[0]

    def _receiver(self, *arguments: str) -> str:
        return self.box.run(RECEIVER_CLI, *arguments)

    def _pair(self) -> None:
        """Let the wearables have been paired and assigned before."""
        state = self.path(STATE)
        bond_beforehand(state / "bonds.json", self.devices)
        self.streams = {address: f"{place:032x}" for place, address in enumerate(self.devices, 1)}
        devices = [
            {"address": address, "profile": profile, "stream": self.streams[address], "bond": "authenticated"}
            for address, profile in self.devices.items()
        ]
        (state / "devices.json").write_text(json.dumps({"schema": 3, "devices": devices}))
        owner = state.stat()
        for name in ("bonds.json", "devices.json"):
            shutil.chown(state / name, owner.st_uid, owner.st_gid)

    def _put_on_the_air(self) -> None:
        settings = ("User=iomt-gateway", "StateDirectory=air", "StateDirectoryMode=0700")
        self.box.run(
            *("systemd-run", "--unit=air", *map("--property={}".format, settings)),
            *("/usr/lib/iomt-gateway/bin/python", "-m", "gateway.lab.wearables", "--count", str(len(self.devices))),
            *("--hci", f"{_AIR}/hci.sock", "--ledger", f"{_AIR}/ledger.jsonl", "--bonds", f"{STATE}/bonds.json"),
        )
        until(self.path(f"{_AIR}/hci.sock").exists, lambda: self.box.journal("air"))
