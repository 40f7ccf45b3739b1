"""Three NATS nodes with the configuration as shipped, for tests and benchmarks."""

import asyncio
import shutil
import ssl
import time
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from string import Template

from gateway.errors import ConfigError, UplinkError
from gateway.lab.process import Child
from gateway.lab.site import free_port
from gateway.receiver.config import JetStreamSection
from gateway.receiver.jetstream import init_stream, users

NODES = 3
_ELECTED_S = 60.0


def program() -> str | None:
    """Where nats-server is installed, if it is."""
    return shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")


class Nodes:
    """The nodes of a cluster on loopback, each with a directory below `root`; started, killed and started again.

    Raises `ConfigError` if nats-server is not installed.
    """

    def __init__(self, root: Path, pki: Path, gateways: Iterable[str]) -> None:
        program_path = program()
        if program_path is None:
            raise ConfigError("nats-server is not installed; on Debian: apt install nats-server")
        self._program = program_path
        self._root = root
        root.mkdir()
        ports = [[free_port() for _ in range(3)] for _ in range(NODES)]
        self.servers = tuple(f"127.0.0.1:{client}" for client, _, _ in ports)
        self.mqtt = tuple(f"127.0.0.1:{mqtt}" for _, _, mqtt in ports)
        accounts = root / "users.conf"
        accounts.write_text(users(gateways), encoding="utf-8")
        routes = ", ".join(f'"nats-route://127.0.0.1:{route}"' for _, route, _ in ports)
        shipped = Template(resources.files("config").joinpath("nats/node.conf").read_text(encoding="utf-8"))
        for number, (client, route, mqtt) in enumerate(ports):
            addresses = {"CLIENT": client, "ROUTE": route, "MQTT": mqtt}
            values = {key: f"127.0.0.1:{port}" for key, port in addresses.items()}
            values |= {"NAME": f"n{number}", "ROUTES": routes, "PKI": str(pki), "STATE": str(root / f"n{number}")}
            # nats-server takes an included file relative to the including one.
            (root / f"n{number}.conf").write_text(shipped.substitute(values, USERS=accounts.name), encoding="utf-8")
        self._children: dict[int, Child] = {}

    async def start(self, number: int) -> None:
        """Start one node."""
        command = (self._program, "-c", str(self._root / f"n{number}.conf"))
        self._children[number] = await Child.run(f"n{number}", *command, logs=self._root)

    async def kill(self, number: int) -> None:
        """SIGKILL one node."""
        await self._children[number].kill()

    async def stop(self) -> None:
        """End all of them."""
        for child in self._children.values():
            await child.stop()

    async def prepare(self, tls: ssl.SSLContext) -> JetStreamSection:
        """The stream, made or found right as soon as the cluster has elected its leader. Raises `UplinkError`."""
        section = JetStreamSection(servers=self.servers, max_bytes=1 << 30)
        deadline = time.monotonic() + _ELECTED_S
        while True:
            try:
                await init_stream(section, tls=tls, timeout_s=5)
            except (UplinkError, TimeoutError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)
            else:
                return section

    def process(self, number: int) -> int:
        """The process id of one node."""
        return self._children[number].pid

    def last_words(self) -> str:
        """The ends of their logs."""
        return "\n".join(child.last_words() for child in self._children.values())
