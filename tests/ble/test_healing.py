"""Links are tried at a pace that spares everybody, silence is noticed, and an adapter is reset only for a reason."""

import pytest

from gateway.ble.healing import AdapterWatchdog, LinkMachine, LinkState, Remedy


def machine(*, state: LinkState = LinkState.DOWN, silent_s: float | None = 60.0) -> LinkMachine:
    return LinkMachine(state, retry_max_s=8.0, silent_s=silent_s, jitter=lambda: 1.0)


def pauses(link: LinkMachine, times: int) -> list[float]:
    told = []
    for _ in range(times):
        link.down(100.0)
        told.append(link.next_try - 100.0)
    return told


def test_pauses_double_up_to_the_longest() -> None:
    assert pauses(machine(), 8) == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_a_link_that_was_up_is_tried_again_soon() -> None:
    link = machine()
    pauses(link, 6)
    link.up(200.0)
    assert pauses(link, 2) == [0.25, 0.5]


def test_a_lost_bond_is_tried_at_the_slowest_pace_and_still_due() -> None:
    link = machine()
    link.bond_lost(100.0)
    link.bond_lost(100.0)
    assert (link.state, link.due, link.next_try) == (LinkState.BOND_LOST, True, 108.0)


@pytest.mark.parametrize("state", [LinkState.UNASSIGNED, LinkState.UNPAIRED, LinkState.QUARANTINED, LinkState.UP])
def test_nothing_is_due_where_a_person_has_to_act_or_all_is_well(state: LinkState) -> None:
    assert not machine(state=state).due


def test_a_link_that_says_nothing_counts_as_silent() -> None:
    link = machine()
    link.up(10.0)
    assert link.silent_at == 70.0
    link.heard(30.0)
    assert link.silent_at == 90.0
    link.down(40.0)
    assert link.silent_at is None


def test_a_meter_may_be_silent_for_as_long_as_it_likes() -> None:
    link = machine(silent_s=None)
    link.up(10.0)
    link.heard(11.0)
    assert link.silent_at is None


def looks(dog: AdapterWatchdog, until: int, *, due: bool = True) -> list[tuple[int, Remedy]]:
    return [(now, remedy) for now in range(until) if (remedy := dog.look(float(now), due=due))]


def test_first_a_reset_then_the_root_unit_with_growing_patience() -> None:
    assert looks(AdapterWatchdog(silent_s=100.0, now=0.0), 1501) == [
        (100, Remedy.RESET),
        (300, Remedy.UNIT),
        (700, Remedy.UNIT),
        (1500, Remedy.UNIT),
    ]


def test_patience_ends_at_an_hour() -> None:
    dog = AdapterWatchdog(silent_s=3000.0, now=0.0)
    assert [now for now, _ in looks(dog, 11_000)] == [3000, 6600, 10_200]


def test_an_adapter_that_hears_is_trusted_anew() -> None:
    dog = AdapterWatchdog(silent_s=100.0, now=0.0)
    assert dog.look(100.0, due=True) is Remedy.RESET
    dog.heard(150.0)
    assert dog.look(249.0, due=True) is None
    assert dog.look(250.0, due=True) is Remedy.RESET


def test_nobody_expected_nothing_done() -> None:
    dog = AdapterWatchdog(silent_s=100.0, now=0.0)
    assert looks(dog, 1000, due=False) == []
    assert dog.look(1050.0, due=True) is None
