"""A Prometheus of Debian's, with the shipped configuration and rules, in which only durations are shorter."""

import asyncio
import copy
import json
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import h11
import yaml

from gateway.lab.process import Child
from gateway.lab.site import free_port
from gateway.observe import http

SHIPPED = Path(__file__).parents[2] / "config" / "prometheus"
FASTER = 120
EVERY = "500ms"
READY_S = 60.0
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000}


def program() -> str | None:
    return shutil.which("prometheus")


def faster(rules: dict[str, Any]) -> dict[str, Any]:
    """The rules with every `for` and every range `FASTER` times shorter, and nothing else changed."""
    rules = copy.deepcopy(rules)
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        rule["expr"] = re.sub(r"\[(\w+)\]", lambda found: f"[{_shorter(found[1])}]", rule["expr"])
        if "for" in rule:
            rule["for"] = _shorter(rule["for"])
    return rules


def _shorter(duration: str) -> str:
    return f"{int(duration[:-1]) * _UNITS_MS[duration[-1]] // FASTER}ms"


class Prometheus:
    def __init__(self, child: Child, address: str) -> None:
        self._child = child
        self._address = address
        self.stop = child.stop

    @classmethod
    async def start(cls, folder: Path, targets: Mapping[str, str]) -> Self:
        """Scrape HOST:PORT by job; the rest is as shipped."""
        folder.mkdir()
        config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": EVERY, "evaluation_interval": EVERY}
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        [name] = config["rule_files"]
        (folder / name).write_text(yaml.safe_dump(faster(yaml.safe_load((SHIPPED / name).read_text()))))
        address = f"127.0.0.1:{free_port()}"
        command = (
            *(str(program()), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
            f"--web.listen-address={address}",
        )
        server = cls(await Child.run("prometheus", *command, logs=folder), address)
        deadline_s = time.monotonic() + READY_S
        while time.monotonic() < deadline_s:
            with suppress(OSError, h11.RemoteProtocolError):
                if b"Ready" in await http.fetch("/-/ready", socket=address):
                    return server
            await asyncio.sleep(0.1)
        raise AssertionError(server._child.last_words())

    async def firing(self) -> dict[str, str]:
        """The runbook of each alert that fires, by its name."""
        alerts = (await self._ask("/api/v1/alerts"))["alerts"]
        return {a["labels"]["alertname"]: a["annotations"]["runbook_url"] for a in alerts if a["state"] == "firing"}

    async def query(self, query: str) -> list[dict[str, Any]]:
        """What a query finds now."""
        found: list[dict[str, Any]] = (await self._ask(f"/api/v1/query?query={quote(query)}"))["result"]
        return found

    async def _ask(self, path: str) -> dict[str, Any]:
        said = json.loads(await http.fetch(path, socket=self._address))
        assert said["status"] == "success", said
        data: dict[str, Any] = said["data"]
        return data
