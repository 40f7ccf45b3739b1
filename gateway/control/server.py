"""Answers calls of the control API: who is it, may they, is the form right, note it, do it, note the outcome."""

import json
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Final

from pydantic import TypeAdapter, ValidationError

from gateway.control import api
from gateway.control.acts import Acts, Call
from gateway.control.audit import AuditLog
from gateway.control.peers import Person, Role, Roles
from gateway.control.routes import ROUTES, Route, address_in, openapi
from gateway.errors import AdapterError, AuditError, ControlError, DeviceError, GatewayError
from gateway.observe.http import Page, Request, Response

_log = logging.getLogger(__name__)

_JSON: Final = "application/json"
_OPENAPI: Final = "/v1/openapi.json"
_STATUS: Final = {"forbidden": 403, "not-found": 404, "method": 405, "not-heard": 409, "invalid": 422}
_ADAPTERS: Final = {route: TypeAdapter(route.answer) for route in ROUTES if not route.streams}


class Server:
    """`on_head` is told the audit log's number of entries and head after each act; `utc_ms` is None while unknown."""

    def __init__(
        self,
        acts: Acts,
        roles: Roles,
        audit: AuditLog,
        metrics: Page,
        *,
        utc_ms: Callable[[], int | None],
        on_head: Callable[[], None],
    ) -> None:
        self._acts = acts
        self._roles = roles
        self._audit = audit
        self._pages = {
            "/metrics": metrics,
            _OPENAPI: Page(lambda: json.dumps(openapi()).encode(), _JSON),
        }
        self._utc_ms = utc_ms
        self._on_head = on_head

    async def answer(self, request: Request) -> Response:
        """Any request on the control socket."""
        try:
            return await self._answer(request)
        except GatewayError as error:
            reason = error.reason if isinstance(error, ControlError) else error.cause
            trouble = TypeAdapter(api.Trouble).dump_json(api.Trouble(reason, str(error)))
            headers = (("Allow", ", ".join(self._methods(request.path))),) if reason == "method" else ()
            return Response(_status(error), trouble, _JSON, headers)

    async def _answer(self, request: Request) -> Response:
        person = self._roles.person(request.credentials) if request.credentials else None
        if person is None:
            raise ControlError("forbidden", "you are in none of the groups of [control] in the gateway's configuration")
        if (page := self._pages.get(request.path)) and request.method == "GET":
            return Response(200, page.render(), page.content_type)
        route, address = self._find(request)
        if person.role < route.role:
            _log.warning("a call was refused", extra={"who": person.name, "call": f"{route.method} {route.path}"})
            groups = " or ".join(f"{role.name.lower()}_group" for role in Role if role >= route.role)
            raise ControlError("forbidden", f"only members of {groups} may do that; you are {person.role.name.lower()}")
        call = Call(address, _body(route, request.body))
        answer = await (self._act(route, call, person) if route.act else route.handle(self._acts, call))
        if isinstance(answer, AsyncGenerator):
            return Response(200, answer, "text/event-stream")
        return Response(200, _ADAPTERS[route].dump_json(answer), _JSON)

    def _find(self, request: Request) -> tuple[Route, str]:
        """Raises `ControlError` if there is no such path, or it does not take this method."""
        for route, address in _fitting(request.path):
            if route.method == request.method:
                return route, address
        if methods := self._methods(request.path):
            raise ControlError("method", f"{request.path}: takes {', '.join(methods)}")
        raise ControlError("not-found", f"{request.path}: there is no such path; {_OPENAPI} tells them all")

    def _methods(self, path: str) -> list[str]:
        return ["GET"] if path in self._pages else [route.method for route, _ in _fitting(path)]

    async def _act(self, route: Route, call: Call, person: Person) -> object:
        """Do what belongs in the audit log. An act that nobody waits for any more is `abandoned`."""
        await self._note(route, call, person, "begun")
        outcome = "abandoned"
        try:
            answer = await route.handle(self._acts, call)
            outcome = "done"
        except GatewayError as error:
            outcome = f"refused: {error}"
            raise
        finally:
            await self._note(route, call, person, outcome)
            self._on_head()
        return answer

    async def _note(self, route: Route, call: Call, person: Person, outcome: str) -> None:
        what: dict[str, object] = {"address": call.address} if call.address else {}
        if call.body is not None:
            what |= call.body.model_dump(exclude_none=True)
        role = person.role.name.lower()
        await self._audit.append(
            at_ms=self._utc_ms(), who=person.name, role=role, act=str(route.act), what=what, outcome=outcome
        )


def _fitting(path: str) -> list[tuple[Route, str]]:
    return [(route, address) for route in ROUTES if (address := address_in(route.path, path)) is not None]


def _body(route: Route, data: bytes) -> api.Body | None:
    if route.body is None:
        return None
    try:
        return route.body.model_validate_json(data or b"{}")
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors(include_url=False)]
        raise ControlError("invalid", "; ".join(faults)) from error


def _status(error: GatewayError) -> int:
    match error:
        case ControlError():
            return _STATUS[error.reason]
        case AdapterError() | AuditError():
            return 503
        case DeviceError():
            return 409
    return 500
