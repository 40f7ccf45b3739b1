"""A wearable that is not what it was, or contradicts itself, is quarantined; readings go to their person or nowhere."""

from dataclasses import replace

import pytest

from gateway.ble.guard import Guard, Last, Names, alone, identified
from gateway.ble.inventory import Device, Identity, UserSlot
from gateway.errors import QuarantineError
from gateway.health import metrics
from gateway.model import Extra, Reading, Reason

ADDRESS = "F0:00:00:00:01:01"
STREAM, SON, DAUGHTER = b"\x01" * 16, b"\x02" * 16, b"\x03" * 16
FAMILY = (UserSlot(1, SON, 0), UserSlot(2, DAUGHTER, 0))
NOON = 1_760_000_000_000
MINUTE = 60_000
KNOWN = Identity("Maker", "Model", "Serial", "1.0", "aaaa")
DEVICE = Device(ADDRESS, "cgm", STREAM, identity=KNOWN)


def reading(
    value: int = 100,
    *,
    minute: float = 0,
    metric: int = metrics.GLUCOSE,
    reasons: Reason = Reason.NONE,
    **extras: int,
) -> Reading:
    pairs = tuple(sorted((int(Extra[name.upper()]), number) for name, number in extras.items()))
    return Reading(ADDRESS, metric, value, 0, NOON + int(minute * MINUTE), reasons, pairs)


def reason(guard: Guard, *readings: Reading) -> str:
    with pytest.raises(QuarantineError) as error:
        guard.route(readings)
    return error.value.reason


@pytest.mark.parametrize("field", ["make", "model", "serial", "services"])
def test_another_identity_is_another_device(field: str) -> None:
    with pytest.raises(QuarantineError) as error:
        identified(DEVICE, replace(KNOWN, **{field: "other"}))
    assert error.value.reason == f"{field}-changed"


def test_a_new_firmware_is_the_same_device_and_what_it_keeps_to_itself_stays_known() -> None:
    told = Identity(firmware="2.0", services="aaaa")
    assert identified(DEVICE, told) == replace(KNOWN, firmware="2.0")


TWIN = Device("F0:00:00:00:01:02", "cgm", identity=replace(KNOWN, firmware="9", services="bbbb"))


def test_two_wearables_with_one_serial_number_are_not_told_apart_by_guessing() -> None:
    with pytest.raises(QuarantineError) as error:
        alone(DEVICE, KNOWN, [DEVICE, TWIN])
    assert error.value.reason == "duplicate-serial"


@pytest.mark.parametrize("field", ["make", "model", "serial"])
def test_another_make_model_or_serial_number_is_no_twin(field: str) -> None:
    alone(DEVICE, replace(KNOWN, **{field: "other"}), [DEVICE, TWIN])


def test_without_a_serial_number_or_once_a_person_has_released_it_a_wearable_is_no_twin() -> None:
    nameless = replace(TWIN, identity=replace(TWIN.identity, serial=""))
    alone(DEVICE, replace(KNOWN, serial=""), [DEVICE, nameless])
    alone(replace(DEVICE, shares_serial=True), KNOWN, [DEVICE, TWIN])


def test_two_names_in_turn_under_one_address_are_two_transmitters_and_told_once_an_hour() -> None:
    names = Names()
    heard = [names.doubled(ADDRESS, name, float(now)) for now, name in enumerate("ABABAB")]
    assert heard == [False, False, True, False, False, False]
    assert names.doubled(ADDRESS, "A", 3602.0) is False, "the last B was long ago"
    assert names.doubled(ADDRESS, "B", 3603.0) is True


@pytest.mark.parametrize("names", [["A", "A", "A"], ["A", "B", "B", "C"], ["A", None, "A", None], ["A", None, "B"]])
def test_a_name_that_is_kept_changed_or_left_out_is_no_second_transmitter(names: list[str | None]) -> None:
    here = Names()
    assert not any(here.doubled(ADDRESS, name, float(now)) for now, name in enumerate(names))


def test_names_of_two_addresses_are_not_mixed() -> None:
    here = Names()
    assert not any(here.doubled(f"address {now % 2}", "AB"[now % 2], float(now)) for now in range(6))


def test_readings_go_to_the_stream_of_their_device() -> None:
    routed = Guard(DEVICE, {}).route([reading(), reading(101, minute=5)])
    assert routed.streams == {STREAM: [reading(), reading(101, minute=5)]}
    assert routed.withheld == {}


def test_an_unassigned_device_yields_nothing() -> None:
    routed = Guard(replace(DEVICE, stream=None), {}).route([reading()])
    assert (routed.streams, routed.withheld) == ({}, {None: 1})


def test_slots_of_a_shared_device_are_parted_and_one_that_is_nobodys_yields_nothing() -> None:
    shared = replace(DEVICE, users=FAMILY)
    son, daughter, guest, unnamed = reading(user=1), reading(user=2), reading(user=3), reading()
    routed = Guard(shared, {}).route([son, daughter, guest, unnamed])
    assert routed.streams == {SON: [son], DAUGHTER: [daughter], STREAM: [unnamed]}
    assert routed.withheld == {3: 1}


def test_without_slots_or_with_none_left_what_names_a_user_is_not_the_devices_own() -> None:
    whole = Guard(DEVICE, {}).route([reading(user=1), reading(user=2), reading(user=1)])
    assert (whole.streams, whole.withheld) == ({}, {1: 2, 2: 1})
    emptied = replace(DEVICE, users=FAMILY).unassign(1).unassign(2)
    assert Guard(emptied, {}).route([reading(user=1)]).streams == {}


def test_each_slot_has_its_own_time_from_which_stored_records_are_its_persons() -> None:
    shared = replace(DEVICE, since_ms=NOON, users=(UserSlot(1, SON, NOON), UserSlot(2, DAUGHTER, 0)))
    stored = [reading(minute=-1, backfilled=1, **named) for named in ({}, {"user": 1}, {"user": 2})]
    routed = Guard(shared, {}).route(stored)
    assert routed.streams == {DAUGHTER: [stored[2]]}
    assert routed.withheld == {None: 1, 1: 1}


def test_what_a_device_stored_before_its_assignment_is_withheld() -> None:
    guard = Guard(replace(DEVICE, since_ms=NOON), {})
    before, after = reading(minute=-1, backfilled=1), reading(minute=1, backfilled=1)
    routed = guard.route([before, after])
    assert (routed.streams, routed.withheld) == ({STREAM: [after]}, {None: 1})


def test_what_is_said_live_is_of_the_present_assignment_whatever_its_clock_shows() -> None:
    guard = Guard(replace(DEVICE, since_ms=NOON), {})
    assert guard.route([reading(minute=-600)]).withheld == {}


def test_numbers_and_times_that_run_backwards_are_not_believed() -> None:
    guard = Guard(DEVICE, {})
    guard.route([reading(sequence=10)])
    assert reason(guard, reading(sequence=9, minute=-5)) == "sequence-backwards"


def test_a_meter_that_starts_to_count_anew_is_believed_and_so_is_one_that_was_set_back() -> None:
    guard = Guard(DEVICE, {})
    guard.route([reading(sequence=10)])
    guard.route([reading(sequence=0, minute=1)])
    guard.route([reading(sequence=1, minute=-30)])


def test_stored_records_may_come_in_any_order() -> None:
    guard = Guard(DEVICE, {})
    guard.route([reading(sequence=10)])
    guard.route([reading(sequence=9, minute=-5, backfilled=1)])


def test_glucose_does_not_leap_in_one_body() -> None:
    guard = Guard(DEVICE, {})
    guard.route([reading(80)])
    assert reason(guard, reading(260, minute=1)) == "not-one-person"


def test_what_an_earlier_connection_saw_counts() -> None:
    last: Last = {}
    Guard(DEVICE, last).route([reading(40, metric=metrics.WEIGHT)])
    assert reason(Guard(DEVICE, last), reading(80, minute=10, metric=metrics.WEIGHT)) == "not-one-person"


def test_users_of_one_scale_are_not_compared_with_each_other() -> None:
    guard = Guard(replace(DEVICE, users=FAMILY), {})
    guard.route([reading(40, metric=metrics.WEIGHT, user=1)])
    guard.route([reading(80, minute=1, metric=metrics.WEIGHT, user=2)])
    assert reason(guard, reading(80, minute=2, metric=metrics.WEIGHT, user=1)) == "not-one-person"


@pytest.mark.parametrize(
    "later",
    [
        reading(260, minute=60),
        reading(120, minute=1),
        reading(260, minute=1, reasons=Reason.SENSOR_FAULT),
        reading(260, minute=1, metric=metrics.GLUCOSE_CAPILLARY),
    ],
)
def test_what_one_body_or_a_doubtful_sensor_can_do_is_no_alarm(later: Reading) -> None:
    guard = Guard(DEVICE, {})
    guard.route([reading(80)])
    guard.route([later])
