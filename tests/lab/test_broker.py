"""The demo's broker: who may use which topic (how it behaves on the wire is tested with `uplink`)."""

import pytest
from amqtt.contexts import Action
from hypothesis import given
from hypothesis import strategies as st

from gateway.lab.broker import permitted

PUBLISH, SUBSCRIBE, RECEIVE = Action.PUBLISH, Action.SUBSCRIBE, Action.RECEIVE


@pytest.mark.parametrize(
    ("name", "topic", "action"),
    [
        ("gw-001", "v1/gw/gw-001/up/data", PUBLISH),
        ("gw-001", "v1/gw/gw-001/status", PUBLISH),
        ("gw-001", "v1/gw/gw-001/down/#", SUBSCRIBE),
        ("gw-001", "v1/gw/gw-001/down/receipt", RECEIVE),
        ("receiver", "v1/gw/gw-001/down/receipt", PUBLISH),
        ("receiver", "v1/gw/+/up/#", SUBSCRIBE),
        ("receiver", "v1/gw/+/status", SUBSCRIBE),
        ("receiver", "$share/receivers/v1/gw/+/up/#", SUBSCRIBE),
        ("receiver", "v1/gw/gw-002/up/data", RECEIVE),
    ],
)
def test_each_may_do_its_work(name: str, topic: str, action: Action) -> None:
    assert permitted(name, topic, action)


@pytest.mark.parametrize(
    ("name", "topic", "action"),
    [
        ("gw-001", "v1/gw/gw-002/up/data", PUBLISH),
        ("gw-001", "v1/gw/gw-001/down/receipt", PUBLISH),
        ("gw-001", "v1/gw/gw-001/status/more", PUBLISH),
        ("gw-001", "v1/gw/gw-001/up", PUBLISH),
        ("gw-001", "v1/gw/gw-001", PUBLISH),
        ("gw-001", "v1/gw/+/down/#", SUBSCRIBE),
        ("gw-001", "v1/gw/#", SUBSCRIBE),
        ("gw-001", "#", SUBSCRIBE),
        ("gw-001", "+/+/+/down/#", SUBSCRIBE),
        ("gw-001", "v1/gw/gw-001/#", SUBSCRIBE),
        ("gw-001", "v1/gw/gw-001/+/receipt", SUBSCRIBE),
        ("gw-001", "$share/g/v1/gw/gw-002/down/#", SUBSCRIBE),
        ("gw-001", "v1/gw/gw-001/up/#", SUBSCRIBE),
        ("receiver", "v1/gw/gw-001/up/data", PUBLISH),
        ("receiver", "v1/gw/#", SUBSCRIBE),
        ("receiver", "#", SUBSCRIBE),
        ("receiver", "v1/gw/+/+/#", SUBSCRIBE),
        ("receiver", "$share/g/v1/gw/+/down/#", SUBSCRIBE),
        ("", "v1/gw//up/data/x", SUBSCRIBE),
    ],
)
def test_nobody_may_do_anothers(name: str, topic: str, action: Action) -> None:
    assert not permitted(name, topic, action)


LEVELS = st.lists(
    st.sampled_from(["v1", "gw", "gw-001", "gw-002", "up", "down", "status", "x", "+", "#", ""]), max_size=6
)


@given(levels=LEVELS)
def test_no_filter_lets_a_gateway_match_a_topic_of_another(levels: list[str]) -> None:
    if permitted("gw-001", "/".join(levels), SUBSCRIBE):
        assert levels[:4] == ["v1", "gw", "gw-001", "down"]
