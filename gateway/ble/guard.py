"""Is it still the same wearable, on the same person, and whose stream is a reading? Sans-IO.

Nothing is guessed: what contradicts itself raises `QuarantineError`, and a person decides.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

from gateway.ble.inventory import Device, Identity
from gateway.clock.keeper import BOOT_ENDS_MS
from gateway.errors import QuarantineError
from gateway.health import metrics
from gateway.model import Extra, Reading, Reason

_MINUTE_MS = 60_000
_IN_TURN_S = 60.0
_TOLD_S = 3600.0

_ONE_PERSON = {metrics.GLUCOSE: (150.0, 3 * _MINUTE_MS), metrics.WEIGHT: (15.0, 60 * _MINUTE_MS)}
"""By how much (canonical unit) a value can change within how long in one body, with room to spare. Capillary glucose is
not here: sugar on a finger does that."""

_NOT_BELIEVED = (
    Reason.IMPLAUSIBLE
    | Reason.SENSOR_FAULT
    | Reason.SIGNAL
    | Reason.NOT_READY
    | Reason.CALIBRATION
    | Reason.DEVICE_DOUBTS
)


@dataclass(frozen=True, slots=True)
class Routed:
    """Where readings go, in their order."""

    streams: dict[bytes, list[Reading]]
    withheld: dict[int | None, int]
    """How many go nowhere, by the user whom they name: nobody's, or stored before they were somebody's."""


Last = dict[tuple[object, int], Reading]
"""By user slot and metric, the newest reading that was believed."""

SERVICES_CHANGED = "services-changed"
KEY_CHANGED = "key-changed"
DUPLICATE_SERIAL = "duplicate-serial"


def identified(device: Device, told: Identity) -> Identity:
    """What is known of it from now on: what it says now, and for what it does not say, what it said before.

    A new firmware is no other device. Raises `QuarantineError`.
    """
    known = device.identity
    for each in fields(Identity):
        before, now = getattr(known, each.name), getattr(told, each.name)
        if before and now and before != now and each.name != "firmware":
            raise QuarantineError(f"{each.name}-changed", f"{device.address}: its {each.name} is another now")
    return replace(known, **{each.name: now for each in fields(Identity) if (now := getattr(told, each.name))})


def alone(device: Device, identity: Identity, others: Iterable[Device]) -> None:
    """No other wearable says that it is the same one, or a person knows that this make tells no serial number.

    Raises `QuarantineError`.
    """
    if device.shares_serial or not identity.serial:
        return
    own = (identity.make, identity.model, identity.serial)
    for other in others:
        theirs = (other.identity.make, other.identity.model, other.identity.serial)
        if other.address != device.address and theirs == own:
            raise QuarantineError(DUPLICATE_SERIAL, f"{device.address}: tells the serial number of {other.address}")


class Names:
    """Tells when two transmitters use one address: they advertise two names in turn. Times are seconds.

    A bonded link proves by its key which of the two it leads to, so this is for a person to look into, and no reason to
    take nothing from the wearable: anybody with a radio could silence it.
    """

    def __init__(self) -> None:
        self._heard: dict[str, tuple[str, str, float]] = {}
        self._told: dict[str, float] = {}

    def doubled(self, address: str, name: str | None, now: float) -> bool:
        """Whether `name` comes back within a minute after another one; told once an hour."""
        if name is None:
            return False
        newest, before, since = self._heard.setdefault(address, (name, name, now))
        if name == newest:
            return False
        self._heard[address] = (name, newest, now)
        if name != before or now - since > _IN_TURN_S or now - self._told.get(address, -_TOLD_S) < _TOLD_S:
            return False
        self._told[address] = now
        return True


class Guard:
    """One connection's view of one wearable; `last` is what earlier ones have seen, and is kept up to date."""

    def __init__(self, device: Device, last: Last) -> None:
        self._device = device
        self._newest: Reading | None = None
        self._last = last

    def route(self, readings: Sequence[Reading]) -> Routed:
        """Sort `readings` by stream. Raises `QuarantineError`; then none of them is to be believed."""
        streams: dict[bytes, list[Reading]] = {}
        withheld: dict[int | None, int] = {}
        for reading in readings:
            extras = dict(reading.extras)
            named = extras.get(Extra.USER)
            user = named if isinstance(named, int) else None
            live = Extra.BACKFILLED not in extras and not reading.reasons & Reason.STORED
            if live:
                self._check(reading, extras.get(Extra.SEQUENCE), user)
            stream = self._stream(user, None if live else reading.time_ms)
            if stream is None:
                withheld[user] = withheld.get(user, 0) + 1
            else:
                streams.setdefault(stream, []).append(reading)
        return Routed(streams, withheld)

    def _stream(self, user: int | None, stored_ms: int | None) -> bytes | None:
        """Whose it is, by the user whom it names; of a stored one (`stored_ms` is its time) also by when it was made.

        A time that counts from the boot tells nothing.
        """
        owner = self._device.owner(user)
        if owner is None:
            return None
        stream, since_ms = owner
        return stream if stored_ms is None or stored_ms >= since_ms or stored_ms < BOOT_ENDS_MS else None

    def _check(self, reading: Reading, sequence: object, user: object) -> None:
        newest = self._newest
        if isinstance(sequence, int):
            before = dict(newest.extras)[Extra.SEQUENCE] if newest else None
            if newest and isinstance(before, int) and sequence < before and reading.time_ms < newest.time_ms:
                raise QuarantineError(
                    "sequence-backwards", f"{reading.device}: its records and their times run backwards"
                )
            self._newest = reading
        bounds = _ONE_PERSON.get(reading.metric)
        if bounds is None or reading.mantissa is None or reading.reasons & _NOT_BELIEVED:
            return
        last = self._last.get((user, reading.metric))
        self._last[user, reading.metric] = reading
        most, within_ms = bounds
        if last and abs(reading.time_ms - last.time_ms) <= within_ms and abs(_value(reading) - _value(last)) > most:
            raise QuarantineError("not-one-person", f"{reading.device}: its values cannot be one person's")


def _value(reading: Reading) -> float:
    return (reading.mantissa or 0) * 10.0**reading.exponent
