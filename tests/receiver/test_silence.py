from gateway.receiver.silence import Silence


def test_a_gateway_falls_silent_once_and_is_back_once() -> None:
    silence = Silence({"gw-1": 0, "gw-2": 0}, 130)
    assert silence.changes({}, 130) == ({}, set())
    silence.heard(["gw-2"], 100)
    assert silence.changes({}, 131) == ({"gw-1": 0}, set())
    assert silence.silent(131) == {"gw-1": 0}
    assert silence.changes({}, 140) == ({}, set())
    silence.heard(["gw-1"], 150)
    assert silence.changes({}, 160) == ({}, {"gw-1"})
    assert silence.changes({}, 160) == ({}, set())


def test_what_another_receiver_of_the_store_heard_counts() -> None:
    silence = Silence({"gw-1": 50}, 130)
    assert silence.changes({"gw-1": 100, "gw-3": 0}, 200) == ({"gw-3": 0}, set())
    assert silence.changes({"gw-1": 0, "gw-3": 0}, 200) == ({}, set())


def test_who_was_never_heard_is_not_missed() -> None:
    assert Silence({}, 130).changes({}, 1_000) == ({}, set())
