"""Answers the read API: who asks, may they, is the form right, read, note it, answer."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from cryptography import x509
from pydantic import TypeAdapter, ValidationError

from gateway.control.audit import AuditLog
from gateway.errors import AuditError, ConfigError, ControlError, GatewayError, IdentityError, StoreError
from gateway.identity.chain import owner
from gateway.identity.tls import load_revoked, server_context
from gateway.observe.http import Request, Response, serve_requests
from gateway.receiver.api import models
from gateway.receiver.api.reads import Rows
from gateway.receiver.api.routes import ROUTES, Role, Route, openapi
from gateway.receiver.api.source import snapshot
from gateway.receiver.config import ApiSection, ReceiverConfig

_log = logging.getLogger(__name__)

LOG: Final = "api.jsonl"
_JSON: Final = "application/json"
_OPENAPI: Final = "/v1/openapi.json"
_STATUS: Final = {"forbidden": 403, "not-found": 404, "method": 405, "invalid": 422}


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever shows a certificate whose common name the configuration names."""

    name: str
    role: Role


class Api:
    """`open_snapshot` opens the store for one question; `crl` says whose certificates count no more."""

    def __init__(
        self,
        section: ApiSection,
        audit: AuditLog,
        *,
        crl: Path,
        open_snapshot: Callable[[], AbstractContextManager[Rows]],
    ) -> None:
        self._roles = dict.fromkeys(section.viewers, Role.VIEWER) | dict.fromkeys(section.readers, Role.READER)
        self._audit = audit
        self._crl = crl
        self._open_snapshot = open_snapshot

    async def answer(self, request: Request) -> Response:
        """Any request."""
        try:
            return await self._answer(request)
        except GatewayError as error:
            reason = error.reason if isinstance(error, ControlError) else error.cause
            body = TypeAdapter(models.Trouble).dump_json(models.Trouble(reason, str(error)))
            return Response(_status(error), body, _JSON)

    async def _answer(self, request: Request) -> Response:
        person = self._person(request.peer)
        if request.method != "GET":
            raise ControlError("method", f"{request.path}: takes GET")
        if request.path == _OPENAPI:
            return Response(200, json.dumps(openapi()).encode(), _JSON)
        route, place = _find(request.path)
        outcome = "abandoned"
        try:
            body = await self._read(person, route, place, request.query)
            outcome = "read"
        except GatewayError as error:
            outcome = f"refused: {error}"
            raise
        finally:
            await self._note(person, route, request, outcome)
        tag = f'"{sha256(body).hexdigest()[:32]}"'
        headers = (("ETag", tag), ("Cache-Control", "private, no-cache"))
        if tag in request.headers.get("if-none-match", ""):
            return Response(304, b"", _JSON, headers)
        return Response(200, body, _JSON, headers)

    def _person(self, certificate: bytes | None) -> Person:
        """Raises `ControlError` for somebody without a role."""
        if certificate is None:
            raise ControlError("forbidden", "show a certificate")
        shown = x509.load_der_x509_certificate(certificate)
        name = owner(shown)
        role = self._roles.get(name)
        if role is None or shown.serial_number in load_revoked(self._crl):
            _log.warning("a read was refused", extra={"who": name})
            raise ControlError("forbidden", f"{name}: is no viewer or reader in [api], or is revoked")
        return Person(name, role)

    async def _read(self, person: Person, route: Route, place: tuple[str, ...], query: str) -> bytes:
        if person.role < route.role:
            raise ControlError("forbidden", f"is for readers, and {person.name} is a viewer")
        wanted = _query(route, query)

        def read() -> bytes:
            with self._open_snapshot() as rows:
                return TypeAdapter(route.answer).dump_json(route.read(rows, *place, wanted))

        return await asyncio.to_thread(read)

    async def _note(self, person: Person, route: Route, request: Request, outcome: str) -> None:
        """Nothing is answered that is not noted on the disk."""
        await self._audit.append(
            at_ms=time.time_ns() // 1_000_000,
            who=person.name,
            role=person.role.name.lower(),
            act=route.read.__name__,
            what={"path": request.path, "query": request.query},
            outcome=outcome,
        )


def serve(config: ReceiverConfig) -> AbstractAsyncContextManager[None]:
    """Answer while entered. Raises `ConfigError`, `IdentityError`, `AuditError` or `StoreError` where it cannot."""
    section = config.api
    files = section.files
    if files is None:
        raise ConfigError(
            "[api]: listen, tls_ca, tls_cert and tls_key say where the read API is served, and for whom; set them"
        )
    with snapshot(config):
        pass
    audit = AuditLog.open(config.receiver.state_dir / LOG, keep=None)
    if audit.fault:
        raise AuditError(f"{audit.fault}: move it away and look into it")
    ca = files[0]
    api = Api(section, audit, crl=ca.with_suffix(".crl"), open_snapshot=lambda: snapshot(config))
    return serve_requests(api.answer, listen=section.listen, tls=server_context(*files))


def _find(path: str) -> tuple[Route, tuple[str, ...]]:
    for route in ROUTES:
        if (place := route.fits(path)) is not None:
            return route, place
    raise ControlError("not-found", f"{path}: there is no such path; {_OPENAPI} tells them all")


def _query(route: Route, text: str) -> models.Query:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=16)
        if len(dict(pairs)) < len(pairs):
            raise ControlError("invalid", "something is said twice")
        return route.query.model_validate(dict(pairs))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'query'}: {e['msg']}" for e in error.errors(include_url=False)]
        raise ControlError("invalid", "; ".join(faults)) from error
    except ValueError as error:
        raise ControlError("invalid", f"the query cannot be read: {error}") from error


def _status(error: GatewayError) -> int:
    match error:
        case ControlError():
            return _STATUS[error.reason]
        case AuditError() | StoreError():
            return 503
        case IdentityError():
            return 403
    return 500
