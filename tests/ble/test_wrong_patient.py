"""No reading ever goes to a stream that no act gave it, whatever people assign and whatever wearables name."""

import tempfile
from pathlib import Path
from typing import NamedTuple

from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.ble.guard import Guard
from gateway.ble.inventory import Device, Inventory
from gateway.health import metrics
from gateway.model import Extra, Reading, Reason

ADDRESS = "F0:00:00:00:01:01"
START_MS = 1_760_000_000_000
MINUTE_MS = 60_000

users = strategies.none() | strategies.integers(0, 3)
"""None: names no user."""
minutes = strategies.integers(-50, 50)


class Given(NamedTuple):
    """What a person said of one user's readings."""

    stream: bytes
    since_ms: int


class Assignments(RuleBasedStateMachine):
    """People assign and take away, the gateway restarts, readings come; what was said is written down beside it."""

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "devices.json"
        self.inventory = Inventory.load(self.path)
        self.inventory.put(Device(ADDRESS, "wss"))
        self.said: dict[int | None, Given] = {}
        self.used: list[bytes] = []

    def teardown(self) -> None:
        self.directory.cleanup()

    @rule(user=users, minute=minutes)
    def assign(self, user: int | None, minute: int) -> None:
        given = Given(len(self.used).to_bytes(16), START_MS + minute * MINUTE_MS)
        self.used.append(given.stream)
        self.inventory.put(self.inventory.get(ADDRESS).assign(given.stream, user=user, since_ms=given.since_ms))
        self.said[user] = given

    @rule(user=users)
    def unassign(self, user: int | None) -> None:
        self.inventory.put(self.inventory.get(ADDRESS).unassign(user))
        self.said.pop(user, None)

    @rule()
    def unassign_all(self) -> None:
        self.inventory.put(self.inventory.get(ADDRESS).unassign_all())
        self.said.clear()

    @rule()
    def restart(self) -> None:
        self.inventory = Inventory.load(self.path)

    @rule(told=strategies.lists(strategies.tuples(users, minutes, strategies.booleans()), max_size=12))
    def readings_come(self, told: list[tuple[int | None, int, bool]]) -> None:
        readings = [_reading(user, minute, stored=stored) for user, minute, stored in told]
        routed = Guard(self.inventory.get(ADDRESS), {}).route(readings)
        expected: dict[bytes, list[Reading]] = {}
        for (user, _, stored), reading in zip(told, readings, strict=True):
            given = self.said.get(user)
            if given and (not stored or reading.time_ms >= given.since_ms):
                expected.setdefault(given.stream, []).append(reading)
        assert routed.streams == expected
        assert sum(map(len, expected.values())) + sum(routed.withheld.values()) == len(readings)

    @invariant()
    def a_link_is_wanted_as_long_as_somebody_is_assigned(self) -> None:
        device = self.inventory.get(ADDRESS)
        assert device.assigned == bool(self.said)
        assert sorted(device.streams) == sorted(given.stream for given in self.said.values())


def _reading(user: int | None, minute: int, *, stored: bool) -> Reading:
    named = () if user is None else ((int(Extra.USER), user),)
    reasons = Reason.STORED if stored else Reason.NONE
    return Reading(ADDRESS, metrics.BODY_FAT, 20, 0, START_MS + minute * MINUTE_MS, reasons, named)


TestAssignments = Assignments.TestCase
TestAssignments.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
