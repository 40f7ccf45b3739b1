"""Who may pair: in a window only, the device chosen only, nothing weaker than asked, and nobody again and again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ble.pairing import Desk, Method, Prompt, Security
from gateway.errors import PairingError

ONE, OTHER = "F0:00:00:00:01:01", "F0:00:00:00:01:02"


def desk(*, required: Security = Security.AUTHENTICATED) -> Desk:
    desk = Desk()
    desk.open(ONE, required=required, seconds=60.0, now=0.0)
    return desk


@pytest.mark.parametrize("method", Method)
def test_nothing_is_asked_before_a_window_opens(method: Method) -> None:
    with pytest.raises(PairingError, match="outside a window"):
        Desk().judge(Prompt(ONE, method), 0.0)


@pytest.mark.parametrize("method", [Method.COMPARE, Method.ENTER, Method.SHOW])
def test_six_digits_are_asked_within_it_and_not_after(method: Method) -> None:
    here = desk()
    here.judge(Prompt(ONE, method), 60.0)
    with pytest.raises(PairingError, match="outside a window"):
        here.judge(Prompt(ONE, method), 60.1)


def test_nothing_is_asked_after_it_was_shut() -> None:
    here = desk()
    here.close(failed=False, now=1.0)
    with pytest.raises(PairingError, match="outside a window"):
        here.judge(Prompt(ONE, Method.COMPARE), 1.0)


def test_another_device_does_not_come_in_by_it() -> None:
    with pytest.raises(PairingError, match=f"open for {ONE}"):
        desk().judge(Prompt(OTHER, Method.COMPARE), 1.0)


def test_just_works_comes_in_only_where_encryption_is_all_that_is_asked() -> None:
    with pytest.raises(PairingError, match="just_works"):
        desk().judge(Prompt(ONE, Method.JUST_WORKS), 1.0)
    desk(required=Security.ENCRYPTED).judge(Prompt(ONE, Method.JUST_WORKS), 1.0)


def test_a_stack_that_bonded_without_asking_has_bonded_by_just_works() -> None:
    with pytest.raises(PairingError, match="encrypted, not authenticated"):
        desk().check(Security.AUTHENTICATED)
    assert desk(required=Security.ENCRYPTED).check(Security.AUTHENTICATED) is Security.ENCRYPTED


def test_what_the_radio_says_bounds_what_was_witnessed() -> None:
    here = desk()
    here.answered(Method.COMPARE)
    with pytest.raises(PairingError, match="encrypted, not authenticated"):
        here.check(Security.ENCRYPTED)
    assert here.check(Security.AUTHENTICATED) is Security.AUTHENTICATED


def test_what_an_earlier_pairing_witnessed_does_not_count_for_the_next() -> None:
    here = desk()
    here.answered(Method.COMPARE)
    here.close(failed=False, now=1.0)
    here.open(OTHER, required=Security.AUTHENTICATED, seconds=60.0, now=2.0)
    with pytest.raises(PairingError):
        here.check(Security.AUTHENTICATED)


def test_one_window_at_a_time() -> None:
    with pytest.raises(PairingError, match=f"{ONE} is being paired"):
        desk().open(OTHER, required=Security.AUTHENTICATED, seconds=60.0, now=0.0)


def test_three_failures_in_five_minutes_are_enough_and_another_device_may_still_try() -> None:
    here = Desk()
    for attempt in range(3):
        here.open(ONE, required=Security.AUTHENTICATED, seconds=60.0, now=attempt * 10.0)
        here.close(failed=True, now=attempt * 10.0)
    with pytest.raises(PairingError, match="3 failed attempts; wait 270 s"):
        here.open(ONE, required=Security.AUTHENTICATED, seconds=60.0, now=30.0)
    here.open(OTHER, required=Security.AUTHENTICATED, seconds=60.0, now=30.0)
    here.close(failed=False, now=30.0)
    here.open(ONE, required=Security.AUTHENTICATED, seconds=60.0, now=300.0)


@given(
    asks=st.lists(
        st.tuples(st.sampled_from([ONE, OTHER]), st.sampled_from(Method), st.floats(0, 200)), min_size=1, max_size=20
    ),
    opened=st.none() | st.floats(0, 100),
)
def test_whatever_peers_ask_only_the_chosen_one_gets_to_a_person(
    asks: list[tuple[str, Method, float]], opened: float | None
) -> None:
    here = Desk()
    if opened is not None:
        here.open(ONE, required=Security.AUTHENTICATED, seconds=60.0, now=opened)
    for address, method, now in asks:
        try:
            here.judge(Prompt(address, method), now)
        except PairingError:
            continue
        assert opened is not None
        assert address == ONE
        assert method is not Method.JUST_WORKS
        assert now <= opened + 60.0
