"""The window in which a person pairs one wearable: puts the agent's questions to them and their answers back."""

import asyncio
from collections.abc import Callable

from gateway.ble.pairing import Desk, Method, Prompt, Security
from gateway.errors import PairingError

OnRefused = Callable[[PairingError, str], None]


class Window:
    """At most one at a time. `on_refused` takes what was turned away unasked, and the address it came from."""

    def __init__(self, on_refused: OnRefused) -> None:
        self._desk = Desk()
        self._on_refused = on_refused
        self._clock = asyncio.get_running_loop().time
        self._answer: asyncio.Future[int | None] | None = None
        self._asked = asyncio.Event()
        self.prompt: Prompt | None = None
        """What the person is to answer, or to type on the wearable."""

    def open(self, address: str, *, required: Security, seconds: float) -> None:
        """Raises `PairingError`, see `Desk.open`."""
        self._desk.open(address, required=required, seconds=seconds, now=self._clock())

    def close(self, *, failed: bool) -> None:
        """Whoever is still asked need not answer any more."""
        self._desk.close(failed=failed, now=self._clock())
        self._settle(None)

    def check(self, reached: Security) -> Security:
        """See `Desk.check`."""
        return self._desk.check(reached)

    async def prompted(self) -> Prompt:
        """Wait until there is something to answer or to type."""
        await self._asked.wait()
        assert self.prompt  # noqa: S101 - set before the event
        return self.prompt

    def answer(self, value: int | None) -> None:
        """What the person says: None for "no", the number on the wearable's display for `ENTER`, any number for "yes".

        Raises `PairingError` if nothing is asked.
        """
        if self._answer is None or self._answer.done():
            raise PairingError("nothing is asked now")
        self._settle(value)

    def _settle(self, value: int | None) -> None:
        self.prompt = None
        self._asked.clear()
        if self._answer and not self._answer.done():
            self._answer.set_result(value)

    async def ask(self, prompt: Prompt) -> int:
        """As `radio.Ask`: judge, then ask the person, unless there is nothing to answer."""
        try:
            self._desk.judge(prompt, self._clock())
        except PairingError as error:
            self._on_refused(error, prompt.address)
            raise
        if prompt.method is Method.JUST_WORKS:  # the policy allows it, and a person opened the window
            self._desk.answered(prompt.method)
            return 0
        self.prompt = prompt
        self._asked.set()
        if prompt.method is Method.SHOW:
            self._desk.answered(prompt.method)
            return 0
        self._answer = asyncio.get_running_loop().create_future()
        value = await self._answer
        if value is None:
            raise PairingError(f"{prompt.address}: the person said no, or nothing")
        self._desk.answered(prompt.method)
        return value
