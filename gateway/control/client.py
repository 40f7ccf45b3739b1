"""The control API from the other side: calls, server-sent events, and what to do when nobody answers."""

import asyncio
import grp
import json
import os
import pwd
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import h11
from pydantic import TypeAdapter, ValidationError

from gateway.config import ControlSection, GatewayConfig
from gateway.control import api
from gateway.errors import ControlError, NoAnswerError
from gateway.observe.http import request

T = TypeVar("T")
_ANSWER_S = 10.0
_GOOD = 200
_TROUBLE = TypeAdapter(api.Trouble)


class Client:
    """Asks the daemon that has this configuration."""

    def __init__(self, config: GatewayConfig) -> None:
        self._control = config.control
        self._socket = api.socket_of(config)

    async def call(self, method: str, path: str, body: object = None, *, timeout_s: float | None = _ANSWER_S) -> bytes:
        """The answer, JSON. Raises `NoAnswerError`, or `ControlError` as the daemon says it."""
        async with self._ask(method, path, body, timeout_s) as (status, content):
            answer = b"".join([part async for part in content])
        self._check(status, answer)
        return answer

    async def get(self, path: str, kind: TypeAdapter[T]) -> T:
        """As `call`, read as `kind`."""
        return self._read(await self.call("GET", path), kind)

    async def post(self, path: str, kind: TypeAdapter[T], body: object = None, *, timeout_s: float = _ANSWER_S) -> T:
        """As `call`, read as `kind`."""
        return self._read(await self.call("POST", path, body, timeout_s=timeout_s), kind)

    async def listen(self, path: str, *, silent_s: float | None = None) -> AsyncGenerator[tuple[str, Any], None]:
        """Server-sent events: name and data; "", None of a comment. Raises as `call`, and when the daemon ends."""
        async with self._ask("GET", path, None, None) as (status, content):
            if status != _GOOD:
                self._check(status, b"".join([part async for part in content]))
            async with aclosing(_lines(content, silent_s)) as lines:
                name = ""
                async for line in lines:
                    field, _, value = line.partition(": ")
                    if not field:
                        yield "", None
                    elif field == "event":
                        name = value
                    elif field == "data":
                        yield name, json.loads(value)
        raise NoAnswerError(f"{self._socket}: the gateway has ended")

    @asynccontextmanager
    async def _ask(
        self, method: str, path: str, body: object, timeout_s: float | None
    ) -> AsyncIterator[tuple[int, AsyncGenerator[bytes, None]]]:
        data = b"" if body is None else json.dumps(body).encode()
        try:
            async with (
                asyncio.timeout(timeout_s),
                request(method, path, socket=self._socket, body=data) as answer,
            ):
                yield answer
        except TimeoutError as error:
            raise NoAnswerError(
                f"{self._socket}: the gateway is silent; journalctl -u iomt-gateway says why"
            ) from error
        except h11.RemoteProtocolError as error:
            raise NoAnswerError(f"{self._socket}: the gateway ended before it had answered") from error
        except OSError as error:
            raise NoAnswerError(f"{self._socket}: {_way_out(error, self._control)}") from error

    def _check(self, status: int, answer: bytes) -> None:
        if status == _GOOD:
            return
        trouble = self._read(answer, _TROUBLE)
        advice = f"; {_joining(self._control)}" if trouble.error == "forbidden" else ""
        raise ControlError(trouble.error, trouble.message + advice)

    def _read(self, answer: bytes, kind: TypeAdapter[T]) -> T:
        try:
            return kind.validate_json(answer)
        except ValidationError as error:
            raise NoAnswerError(
                f"{self._socket}: the gateway that runs is of another version: systemctl restart iomt-gateway"
            ) from error


async def _lines(content: AsyncGenerator[bytes, None], silent_s: float | None) -> AsyncGenerator[str, None]:
    rest = b""
    while True:
        try:
            async with asyncio.timeout(silent_s):
                rest += await anext(content)
        except StopAsyncIteration:
            return
        *lines, rest = rest.split(b"\n")
        for line in lines:
            yield line.decode()


def _way_out(error: OSError, control: ControlSection) -> str:
    """Why nobody answers on the socket, and what to do."""
    match error:
        case FileNotFoundError():
            return (
                "there is no such socket: the gateway does not run, or has another configuration (--config);"
                " systemctl start iomt-gateway"
            )
        case ConnectionRefusedError():
            return "the gateway has ended; systemctl start iomt-gateway, and journalctl -u iomt-gateway says why"
        case PermissionError():
            return f"you may not; {_joining(control)}"
    return f"{error.strerror or error}; is the gateway running? systemctl status iomt-gateway"


def _joining(control: ControlSection) -> str:
    """How this user gets to be allowed."""
    names = {"viewer": control.viewer_group, "operator": control.operator_group, "admin": control.admin_group}
    named = {role: group for role, group in names.items() if group}
    user = _user()
    if not named:
        return "only root and the gateway's own user may: use sudo, or name groups in [control] (docs/control.md)"
    if not control.socket:
        return "members of groups cannot enter the state directory: set control.socket (docs/control.md)"
    for group in named.values():
        if user in _members(group) and grp.getgrnam(group).gr_gid not in os.getgroups():
            return f"you joined the group {group} after you logged in: log out and in again"
    told = ", ".join(f"{role}: {group}" for role, group in named.items())
    return f"an administrator lets you in with: usermod -aG GROUP {user}; then log in again ({told})"


def _members(group: str) -> list[str]:
    try:
        return grp.getgrnam(group).gr_mem
    except KeyError:
        return []


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return "USER"
