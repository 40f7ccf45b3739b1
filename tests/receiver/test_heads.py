"""Where the history of a box that is gone ends, lane by lane, on each store: what a restored box goes on after."""

import pytest

from gateway.envelope.layout import NO_HASH, urgent_root
from gateway.errors import ConfigError
from gateway.model import Lane, Link
from gateway.receiver.heads import heads
from tests.receiver.conftest import Box, Cloud
from tests.receiver.test_audit import reading


def found(cloud: Cloud, box: Box) -> dict[Lane, Link]:
    with reading(cloud) as archive:
        return heads(archive, box.gateway)


def head(box: Box) -> Link:
    assert box.head is not None
    return box.head


def test_the_last_bundle_of_the_newest_chain_is_the_end_of_the_data_lane(gw: Box, other: Box, cloud: Cloud) -> None:
    cloud.take(gw.tick(), gw.tick(), other.tick())
    assert found(cloud, gw) == {Lane.DATA: head(gw)}
    gw.restart(gw.head)
    cloud.take(gw.tick(), gw.tick(), gw.tick())
    assert found(cloud, gw) == {Lane.DATA: head(gw)}
    assert found(cloud, other) == {Lane.DATA: head(other)}


def test_each_lane_has_an_end_of_its_own(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.tick(), gw.tick())
    data = head(gw)
    gw.restart(Link(urgent_root("gw-1"), 0, NO_HASH))
    cloud.take(gw.tick())
    gw.restart(gw.head)
    cloud.take(gw.tick(), gw.tick())
    assert found(cloud, gw) == {Lane.DATA: data, Lane.URGENT: head(gw)}


def test_a_bundle_that_has_not_arrived_is_no_end(gw: Box, cloud: Cloud) -> None:
    arrived = [gw.tick(), gw.tick()]
    last = head(gw)
    gw.tick()
    cloud.take(*arrived)
    assert found(cloud, gw) == {Lane.DATA: last}


def test_of_a_gateway_of_which_nothing_came_no_end_is_known(gw: Box, cloud: Cloud) -> None:
    with pytest.raises(ConfigError, match="gw-1: the store has nothing of this gateway"):
        found(cloud, gw)
