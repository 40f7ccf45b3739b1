"""Brokers as processes of their own on loopback ports, and clients of a throw-away PKI."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest

from gateway.identity.tls import client_context
from gateway.lab import mosquitto as installed_mosquitto
from gateway.lab.pki import make_dev_pki
from gateway.lab.site import free_port
from gateway.uplink.mqtt import Connection, Will

READY_S = 15.0


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    make_dev_pki(directory, ["gw-001", "gw-002"])
    return directory


def tls_of(pki: Path, name: str) -> SSLContext:
    place = pki / "receiver" if name == "receiver" else pki / "gateways" / name / "tls"
    return client_context(pki / "ca.crt", place.with_suffix(".crt"), place.with_suffix(".key"))


@dataclass
class Broker:
    """A broker that can be killed and started again, with whatever it kept."""

    kind: str
    pki: Path
    state: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.kind == "mosquitto":
            command = installed_mosquitto.command(self.pki, self.state, self.port)
        else:
            command = [sys.executable, "-m", "gateway.lab.broker", "--pki", str(self.pki), "--port", str(self.port)]
        with (self.state / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self.process.poll() is None, (self.state / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def endpoint(self) -> str:
        return f"localhost:{self.port}"

    def connection(self, name: str, *, port: int | None = None, **changes: Any) -> Connection:
        return connect(f"localhost:{port or self.port}", name, self.pki, **changes)


def connect(endpoint: str, name: str, pki: Path, **changes: Any) -> Connection:
    """A client that shows the certificate of `name`: a gateway's id, or `receiver`."""
    is_receiver = name == "receiver"
    arguments: dict[str, Any] = {
        "client_id": name,
        "tls": changes.get("tls") or tls_of(pki, name),
        "keepalive_s": 20,
        "timeout_s": 5.0,
        "clean_start": not is_receiver,
        "session_expiry_s": 3600 if is_receiver else 0,
        "receive_maximum": 32,
        "will": None if is_receiver else Will(f"v1/gw/{name}/status", b"offline"),
    }
    return Connection(endpoint, **{**arguments, **changes})


@pytest.fixture(scope="session", params=["embedded", "mosquitto"])
def shared_broker(
    request: pytest.FixtureRequest, pki: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    yield from _run(request.param, pki, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def broker(shared_broker: Broker) -> Broker:
    """A running broker of each kind; tests leave nothing behind that the next one could meet."""
    return shared_broker


@pytest.fixture(params=["embedded", "mosquitto"])
def mortal_broker(request: pytest.FixtureRequest, pki: Path, tmp_path: Path) -> Iterator[Broker]:
    """A broker of each kind for one test, which may kill it."""
    yield from _run(request.param, pki, tmp_path)


def _run(kind: str, pki: Path, state: Path) -> Iterator[Broker]:
    if kind == "mosquitto" and installed_mosquitto.program() is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    broker = Broker(kind, pki, state, free_port())
    broker.start()
    yield broker
    broker.kill()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the condition lies in another process or in the kernel
            await asyncio.sleep(0.01)
