"""What somebody sends who owns a gateway's certificate, or sits in the broker, and no honest signing key."""

import random
from collections.abc import Callable, Iterator, Sequence

from gateway.envelope.layout import MAX_BUNDLE_BYTES
from gateway.lab.fleet import Shape, SimulatedGateway, ticks
from gateway.receiver.plan import Message

_SHARES = {"forged": 300, "truncated": 250, "replayed": 200, "stolen": 124, "stranger": 124, "oversize": 2}


class Forger:
    """Makes hostile messages from honest ones, repeatably; all are published by hacked boxes on their own topics.

    `own` maps each hacked box to bundles that it sent before, `stranger` signs with a key that nobody registered.
    """

    def __init__(self, own: dict[str, Sequence[bytes]], stranger: SimulatedGateway, seed: int) -> None:
        self._own = own
        self._names = sorted(own)
        self._strange = [each.payload for each in ticks([stranger], Shape(4, 16), 20, now_ms=1)]
        self._random = random.Random(seed)
        self._kinds: dict[str, Callable[[str, bytes], bytes]] = {
            "forged": self._forged,
            "truncated": lambda _, victim: victim[: self._random.randrange(len(victim))],
            "replayed": lambda name, _: self._random.choice(self._own[name]),
            "stolen": lambda _, victim: victim,
            "stranger": lambda *_: self._random.choice(self._strange),
            "oversize": lambda *_: self._random.randbytes(MAX_BUNDLE_BYTES + self._random.randrange(1, 8192)),
        }

    def messages(self, victims: Sequence[Message], count: int) -> Iterator[Message]:
        """`count` of them; `victims` are what the honest send."""
        for kind in self._random.choices(list(_SHARES), list(_SHARES.values()), k=count):
            name = self._random.choice(self._names)
            yield Message(name, self._kinds[kind](name, self._random.choice(victims).payload))

    def _forged(self, name: str, victim: bytes) -> bytes:
        """A bundle of its own with a bit turned: everything may look right but the signature."""
        original = self._random.choice((victim, *self._own[name]))
        place = self._random.randrange(len(original))
        return original[:place] + bytes([original[place] ^ 1 << self._random.randrange(8)]) + original[place + 1 :]
