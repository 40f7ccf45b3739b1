"""Who may pair, when and how: the decisions behind the pairing agent. Sans-IO.

A person opens a window for one wearable; everything outside it is refused without asking anybody. LE Secure Connections
authenticate a pairing by numeric comparison or passkey; "Just Works" authenticates nothing, so a man in the middle can
make it, and only a profile that the site's policy names may be paired by it (Core specification 3.H.2.3.5).
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum, IntEnum

from gateway.errors import PairingError

_ATTEMPTS = 3
_ATTEMPTS_WITHIN_S = 300.0
"""A six-digit number that is guessed three times in five minutes holds for years."""


class Security(IntEnum):
    """What a bond, and a link under it, is worth."""

    NONE = 0
    ENCRYPTED = 1
    """Nobody reads along who was not there when it was paired: "Just Works"."""
    AUTHENTICATED = 2
    """Nor anybody who was: a person compared or typed six digits."""


class Method(Enum):
    """How the two sides make sure of each other, from the person's point of view."""

    COMPARE = "compare"
    """Both show a number: are they the same?"""
    ENTER = "enter"
    """The wearable shows a number: type it here."""
    SHOW = "show"
    """This side shows a number: type it on the wearable."""
    JUST_WORKS = "just-works"
    """Nothing to compare: go on all the same?"""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a person is asked while pairing."""

    address: str
    method: Method
    number: int | None = None
    """Six digits, leading zeros included: what `COMPARE` and `SHOW` are about."""


class Desk:
    """Opens and shuts the window, judges what comes through it, and remembers what failed.

    Times are seconds of any clock that never goes back.
    """

    def __init__(self) -> None:
        self._failures: dict[str, deque[float]] = {}
        self.address: str | None = None
        """For whom the window is open."""
        self._required = Security.NONE
        self._until = 0.0
        self.witnessed = Security.NONE
        """What the answers given so far make of this pairing."""

    def open(self, address: str, *, required: Security, seconds: float, now: float) -> None:
        """Let `address` alone pair within `seconds`, to at least `required`.

        Raises `PairingError` while another window is open, or after too many failures.
        """
        if self.address is not None:
            raise PairingError(f"{address}: {self.address} is being paired; finish or cancel that first")
        failures = self._failures.get(address, deque())
        while failures and failures[0] <= now - _ATTEMPTS_WITHIN_S:
            failures.popleft()
        if len(failures) >= _ATTEMPTS:
            wait_s = failures[0] + _ATTEMPTS_WITHIN_S - now
            raise PairingError(f"{address}: {len(failures)} failed attempts; wait {wait_s:.0f} s before the next")
        self.address, self._required, self._until = address, required, now + seconds
        self.witnessed = Security.NONE

    def judge(self, prompt: Prompt, now: float) -> None:
        """Return if a person may be asked. Raises `PairingError` with the reason if not."""
        if self.address is None or now > self._until:
            raise PairingError(f"{prompt.address}: asks to pair outside a window that a person opened")
        if prompt.address != self.address:
            raise PairingError(f"{prompt.address}: asks to pair while the window is open for {self.address}")
        if prompt.method is Method.JUST_WORKS and self._required > Security.ENCRYPTED:
            raise PairingError(
                f"{prompt.address}: offers only Just Works, which authenticates nobody; ble.just_works forbids it"
            )

    def answered(self, method: Method) -> None:
        """A person said yes, typed the number, or was shown it."""
        proven = Security.ENCRYPTED if method is Method.JUST_WORKS else Security.AUTHENTICATED
        self.witnessed = max(self.witnessed, proven)

    def check(self, reached: Security) -> Security:
        """What the finished pairing is worth: what the radio says, and no more than what was witnessed.

        A stack that bonds without asking anything has bonded by Just Works. Raises `PairingError` if it is too weak.
        """
        level = min(reached, max(self.witnessed, Security.ENCRYPTED))
        if level < self._required:
            raise PairingError(f"{self.address}: paired as {level.name.lower()}, not {self._required.name.lower()}")
        return level

    def close(self, *, failed: bool, now: float) -> None:
        """Shut the window."""
        if self.address is None:
            return
        if failed:
            self._failures.setdefault(self.address, deque()).append(now)
        else:
            self._failures.pop(self.address, None)
        self.address = None
