"""A FHIR server as small as it can be: transactions of conditional creates, over real HTTP, all or nothing."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from fhir.resources.R4B.bundle import Bundle


class FhirServer(ThreadingHTTPServer):
    """What it was given, by type and search; `answers` are statuses given away before it takes anything."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.resources: dict[str, dict[str, Any]] = {}
        self.answers: list[int] = []
        self.posts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/fhir"

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [each for name, each in self.resources.items() if name.startswith(f"{kind}/")]

    def transact(self, bundle: dict[str, Any]) -> int:
        """Create what no search finds, in FHIR's order: first who is who, then the references (R4, 3.1.0.11.2)."""
        assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "transaction")
        Bundle.model_validate(bundle)
        places: dict[str, str] = {}
        fresh = []
        for entry in bundle["entry"]:
            resource, request = entry["resource"], entry["request"]
            assert request["method"] == "POST"
            assert "id" not in resource
            kind = request["url"]
            [(key, token)] = parse_qsl(request["ifNoneExist"], strict_parsing=True)
            assert key == "identifier"
            found = [name for name, each in self.resources.items() if name.startswith(f"{kind}/") and _has(each, token)]
            if len(found) > 1:
                return 412
            places[entry["fullUrl"]] = found[0] if found else f"{kind}/{len(self.resources) + len(fresh) + 1}"
            if not found:
                fresh.append((places[entry["fullUrl"]], resource))
        for name, resource in fresh:
            self.resources[name] = _resolved(resource, places)
        return 200


def _has(resource: dict[str, Any], token: str) -> bool:
    return any(
        token.replace("\\", "") in (each["value"], f"{each.get('system', '')}|{each['value']}")
        for each in resource["identifier"]
    )


def _resolved(value: Any, places: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: places.get(item, item) if key == "reference" else _resolved(item, places)
            for key, item in value.items()
        }
    return [_resolved(item, places) for item in value] if isinstance(value, list) else value


class _Handler(BaseHTTPRequestHandler):
    server: FhirServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts += 1
        status = self.server.answers.pop(0) if self.server.answers else self.server.transact(json.loads(body))
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def fhir_server() -> Iterator[FhirServer]:
    with FhirServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
