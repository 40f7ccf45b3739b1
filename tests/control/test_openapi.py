"""The OpenAPI document is what the control socket does: fuzzed against a whole gateway, valid calls and wrong ones."""

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from schemathesis import Case, GenerationMode
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from gateway.control.routes import ROUTES, openapi
from gateway.lab.devices import CGM_ADDRESS

from .conftest import gateway_with

EXAMPLES = int(os.environ.get("API_EXAMPLES", "4"))
STREAMS = tuple(route.path for route in ROUTES if route.streams)


class UnixSocket(HTTPAdapter):
    """Lets `requests` reach a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__()

        class Connection(HTTPConnection):
            def connect(self) -> None:
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.settimeout(30)
                self.sock.connect(str(path))

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        self._pool = Pool("localhost")

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool


def cases() -> list[Case]:
    """Calls of every operation that ends, right ones and wrong ones; half of them of the wearable that is there."""
    found: list[Case] = []

    def gather(case: Case, address: str | None) -> None:
        if address and case.path_parameters:
            case.path_parameters["address"] = address
        if case.path == "/v1/scan" and isinstance(case.body, dict):
            seconds = case.body.get("seconds", 10.0)
            if type(seconds) in (int, float) and 0 < seconds <= 60:
                case.body["seconds"] = 0.01
        found.append(case)

    operations = [each.ok() for each in schemathesis.openapi.from_dict(openapi()).get_all_operations()]
    for operation in sorted(operations, key=lambda each: each.method == "delete"):  # what comes after finds nothing
        if operation.path in STREAMS:
            continue
        takes = bool(operation.body or operation.path_parameters)
        for mode in GenerationMode if takes else (GenerationMode.POSITIVE,):
            test = given(operation.as_strategy(mode), st.sampled_from([None, CGM_ADDRESS]))(gather)
            settings(
                max_examples=EXAMPLES, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
            )(test)()
    return found


def fuzz(path: Path, calls: list[Case]) -> list[int]:
    """Make `calls`, and hold each answer against the document; returns the statuses."""
    with requests.Session() as session:
        session.mount("http://", UnixSocket(path))
        return [case.call_and_validate(base_url="http://localhost", session=session).status_code for case in calls]


async def test_every_operation_does_what_the_document_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    calls = cases()
    async with gateway_with(CGM_ADDRESS, ble={"connect_timeout_s": 0.05, "pairing_window_s": 0.1}) as bedside:
        statuses = await asyncio.to_thread(fuzz, bedside.socket, calls)
    assert {200, 404, 409, 422} <= set(statuses)
