"""Which gateways have stopped to speak. Sans-IO; times are UTC milliseconds since 1970."""

from collections.abc import Iterable, Mapping


class Silence:
    """Knows when each gateway was last heard; one that was never heard is not installed yet."""

    def __init__(self, heard_ms: Mapping[str, int], limit_ms: int) -> None:
        self._heard_ms = dict(heard_ms)
        self._limit_ms = limit_ms
        self._told: set[str] = set()

    def heard(self, gateways: Iterable[str], now_ms: int) -> None:
        """Take note that bundles of these gateways arrived."""
        self._heard_ms.update(dict.fromkeys(gateways, now_ms))

    def silent(self, now_ms: int) -> dict[str, int]:
        """Since when each silent gateway was not heard."""
        return {each: heard for each, heard in self._heard_ms.items() if now_ms - heard > self._limit_ms}

    def changes(self, elsewhere_ms: Mapping[str, int], now_ms: int) -> tuple[dict[str, int], set[str]]:
        """What a person must be told: those fallen silent, with when they were last heard, and those that are back.

        `elsewhere_ms` tells when other receivers of the same store last heard each gateway.
        """
        for gateway, heard_ms in elsewhere_ms.items():
            self._heard_ms[gateway] = max(heard_ms, self._heard_ms.get(gateway, 0))
        silent = self.silent(now_ms)
        fallen = {gateway: heard_ms for gateway, heard_ms in silent.items() if gateway not in self._told}
        back = self._told - silent.keys()
        self._told = set(silent)
        return fallen, back
