"""The control API's paths: who may call them, what they take and answer; the OpenAPI document is made of the table."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter

from gateway import __version__
from gateway.control import api
from gateway.control.acts import Acts, Call
from gateway.control.peers import Role
from gateway.outbox.shelf import OutboxStats

Handle = Callable[[Acts, Call], Coroutine[None, None, object]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    role: Role
    handle: Handle
    answer: Any
    """The type of what is answered; an async generator: server-sent events."""
    body: type[api.Body] | None = None
    act: str | None = None
    """Its name in the audit log; None: it changes nothing."""

    @property
    def streams(self) -> bool:
        """Whether it answers server-sent events."""
        return self.answer is AsyncGenerator


_JSON: Final = "application/json"
_ADDRESS: Final = TypeAdapter(api.Address).json_schema()
_DEVICE: Final = "/v1/devices/{address}"
ROUTES: Final = (
    Route("GET", "/v1/status", Role.VIEWER, Acts.status, api.Status),
    Route("GET", "/v1/outbox", Role.VIEWER, Acts.outbox, OutboxStats),
    Route("GET", "/v1/identity", Role.VIEWER, Acts.identity, api.Identity),
    Route("GET", "/v1/events", Role.VIEWER, Acts.events, AsyncGenerator),
    Route("GET", "/v1/devices", Role.VIEWER, Acts.devices, tuple[api.Wearable, ...]),
    Route("GET", _DEVICE, Role.VIEWER, Acts.device, api.Wearable),
    Route("GET", "/v1/readings", Role.OPERATOR, Acts.all_readings, AsyncGenerator, act="look-at-readings"),
    Route("GET", f"{_DEVICE}/readings", Role.OPERATOR, Acts.readings, AsyncGenerator, act="look-at-readings"),
    Route("POST", f"{_DEVICE}/rename", Role.OPERATOR, Acts.rename, api.Done, api.NewName, "rename"),
    Route("POST", f"{_DEVICE}/assign", Role.OPERATOR, Acts.assign, api.Stream, api.Assignment, "assign"),
    Route("POST", f"{_DEVICE}/unassign", Role.OPERATOR, Acts.unassign, api.Done, api.Unassignment, "unassign"),
    Route("POST", f"{_DEVICE}/unpair", Role.OPERATOR, Acts.unpair, api.Done, act="unpair"),
    Route("POST", f"{_DEVICE}/release", Role.ADMIN, Acts.release, api.Done, act="release"),
    Route("DELETE", _DEVICE, Role.ADMIN, Acts.remove, api.Done, act="remove"),
    Route("POST", "/v1/scan", Role.OPERATOR, Acts.scan, tuple[api.Found, ...], api.Scanning),
    Route("POST", "/v1/pairing", Role.OPERATOR, Acts.pair, api.Wearable, api.PairingWanted, "pair"),
    Route("GET", "/v1/pairing", Role.OPERATOR, Acts.prompt, api.Asked),
    Route("POST", "/v1/pairing/answer", Role.OPERATOR, Acts.answer, api.Done, api.PairingAnswer, "pair-answer"),
)


def address_in(pattern: str, path: str) -> str | None:
    """The address in `path` if it fits `pattern`, "" if there is none to have; None if it does not fit."""
    head, braces, tail = pattern.partition("{address}")
    if not braces:
        return "" if path == pattern else None
    address = path.removeprefix(head).removesuffix(tail)
    if head + address + tail != path or not address or "/" in address:
        return None
    return address.replace("%3A", ":").replace("%3a", ":").upper()


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    bodies = {route: TypeAdapter(route.body) for route in ROUTES if route.body}
    answers = {route: TypeAdapter(route.answer) for route in ROUTES if not route.streams}
    schemas, definitions = TypeAdapter.json_schemas(
        [(("takes", route), "validation", adapter) for route, adapter in bodies.items()]
        + [(("answers", route), "serialization", adapter) for route, adapter in answers.items()]
        + [("trouble", "serialization", TypeAdapter(api.Trouble))],
        ref_template="#/components/schemas/{model}",
    )
    trouble = schemas["trouble", "serialization"]
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        answer = schemas.get((("answers", route), "serialization"))
        good = _content(_JSON, answer, "done") if answer else _content("text/event-stream", {}, "events")
        operation: dict[str, Any] = {
            "operationId": route.handle.__name__,
            "summary": (route.handle.__doc__ or "").splitlines()[0],
            "description": f"For a {route.role.name.lower()}.",
            "x-role": route.role.name.lower(),
            "responses": {"200": good}
            | {str(status): _content(_JSON, trouble, meaning) for status, meaning in _troubles(route)},
        }
        if "{address}" in route.path:
            operation["parameters"] = [{"name": "address", "in": "path", "required": True, "schema": _ADDRESS}]
        if route in bodies:
            body = _content(_JSON, schemas[("takes", route), "validation"], "")
            operation["requestBody"] = {"required": True, "content": body["content"]}
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "iomt-gateway control", "version": __version__},
        "paths": paths,
        "components": {"schemas": definitions.get("$defs", {})},
    }


def _troubles(route: Route) -> Iterator[tuple[int, str]]:
    yield 403, "no role for that"
    if "{address}" in route.path:
        yield 404, "no such wearable"
    if route.body:
        yield 422, "the body is wrong"
    if route.role > Role.VIEWER:
        yield 409, "a wearable or a person said no"
        yield 503, "no adapter, or the audit log cannot be written"


def _content(media_type: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}
