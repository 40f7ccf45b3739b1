from gateway.observe.throttle import Throttle


def test_a_subject_is_told_once_an_interval_with_how_many_it_stands_for() -> None:
    throttle = Throttle(60.0)
    assert [throttle.admit(("a",), now) for now in (0.0, 1.0, 59.0, 60.0, 61.0, 125.0)] == [1, 0, 0, 3, 0, 2]


def test_subjects_do_not_silence_each_other() -> None:
    throttle = Throttle(60.0)
    assert [throttle.admit((name,), 0.0) for name in ("a", "b", "a")] == [1, 1, 0]
