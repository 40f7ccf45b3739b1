import random
from statistics import mean, pstdev

from gateway.errors import ClosedByBrokerError, ConnectionLostError, SessionTakenOverError
from gateway.uplink.backoff import Backoff

LOST, CLOSED, TAKEN_OVER = ConnectionLostError("cut"), ClosedByBrokerError("closed"), SessionTakenOverError("other")


def highest(low: float, high: float) -> float:
    assert low <= high
    return high


def test_pauses_grow_to_the_longest_and_no_further() -> None:
    backoff = Backoff(30.0, highest)
    assert [backoff.pause_s(LOST, 0.0) for _ in range(6)] == [0.75, 2.25, 6.75, 20.25, 30.0, 30.0]


def test_a_connection_that_held_begins_anew_and_a_short_one_does_not() -> None:
    backoff = Backoff(30.0, highest)
    lives = (0.0, 4.9, 5.0, 0.0)
    assert [backoff.pause_s(LOST, lived) for lived in lives] == [0.75, 2.25, 0.75, 2.25]


def test_a_ward_that_lost_its_broker_at_once_does_not_come_back_at_once() -> None:
    source = random.Random(1)
    ward = [Backoff(30.0, source.uniform) for _ in range(500)]
    firsts = [backoff.pause_s(CLOSED, 100.0) for backoff in ward]
    thirds = [
        first + sum(backoff.pause_s(LOST, 0.0) for _ in range(2)) for backoff, first in zip(ward, firsts, strict=True)
    ]
    assert min(firsts) >= 0.25
    assert pstdev(firsts) > 0.1
    assert pstdev(thirds) > 3 * pstdev(firsts)
    assert mean(thirds) < 5


def test_two_clients_that_a_broker_lets_throw_each_other_out_slow_down_though_it_gives_no_reason() -> None:
    source = random.Random(1)
    clones = [Backoff(30.0, source.uniform) for _ in range(2)]
    lived, pauses = 0.0, []
    for turn in range(60):
        lived = clones[turn % 2].pause_s(CLOSED, lived)
        pauses.append(lived)
    assert mean(pauses[20:]) > 3


def test_two_clients_with_one_certificate_pause_for_minutes_where_the_broker_gives_the_reason() -> None:
    backoff = Backoff(30.0, random.Random(1).uniform)
    pauses = [backoff.pause_s(TAKEN_OVER, 100.0) for _ in range(100)]
    assert 60 <= min(pauses) <= max(pauses) <= 300
