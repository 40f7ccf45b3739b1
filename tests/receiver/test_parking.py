"""Bundles whose epoch is not there yet: parked, bounded, taken once it comes."""

from gateway.model import Refusal
from tests.receiver.conftest import Box, Cloud
from tests.receiver.facts import count, covers, link, resealed


def test_a_bundle_whose_epoch_is_unknown_waits_for_it_unreceipted(gw: Box, cloud: Cloud) -> None:
    opener, needs, needs_too = (gw.tick() for _ in range(3))
    taken = cloud.take(needs_too, needs, needs)
    assert (taken.receipts, taken.committed.parked, count(cloud)) == ((), 2, 0)
    first, second = cloud.settle(opener)
    assert cloud.receipts(first)["gw-1"].ranges == (covers(opener),)
    assert cloud.receipts(second)["gw-1"].ranges == (covers(opener, needs, needs_too),)
    assert (count(cloud), count(cloud, "parked"), count(cloud, "parked_needs")) == (3, 0, 0)


def test_the_order_within_one_batch_does_not_matter(gw: Box, cloud: Cloud) -> None:
    opener, needs = gw.tick(), gw.tick()
    taken = cloud.take(needs, opener)
    assert (len(taken.plan.bundles), taken.committed.parked) == (2, 0)


def test_a_parked_bundle_that_proves_bad_is_refused_and_waits_no_longer(gw: Box, cloud: Cloud) -> None:
    opener, good = gw.tick(), gw.tick()
    bad = resealed(good, gw, no=2)
    cloud.take(bad)
    taken = cloud.settle(opener, good)[-1]
    assert cloud.receipts(taken)["gw-1"].refused == (Refusal(link(bad).chain, 2, "malformed"),)
    assert taken.committed.parked == 0


def test_a_parked_bundle_survives_a_restart_of_the_receiver(gw: Box, cloud: Cloud) -> None:
    opener, needs = gw.tick(), gw.tick()
    cloud.take(needs)
    cloud.take(opener)
    cloud.store.close()
    cloud.open()
    assert [message for _, message in cloud.store.ready(after=0, limit=9)] == [needs]


def test_parked_bundles_are_bounded_and_what_finds_no_room_is_taken_when_sent_again(gw: Box, cloud: Cloud) -> None:
    opener, *rest = [gw.tick() for _ in range(5)]
    cloud.store.close()
    cloud.parked_limit = 2
    cloud.open()
    taken = cloud.take(*rest)
    assert (taken.committed.parked, taken.plan.overflowed, taken.receipts) == (2, 2, ())
    cloud.settle(opener)
    assert cloud.receipts(cloud.take(*rest))["gw-1"].ranges == (covers(opener, *rest),)


def test_one_gateway_cannot_take_the_others_room_to_park(gw: Box, other: Box, cloud: Cloud) -> None:
    mine, theirs = [[box.tick() for _ in range(4)] for box in (gw, other)]
    cloud.store.close()
    cloud.parked_limit, cloud.parked_per_gateway = 3, 2
    cloud.open()
    assert cloud.take(*mine[1:]).plan.overflowed == 1
    assert (cloud.take(mine[3]).plan.overflowed, cloud.take(theirs[1]).plan.overflowed) == (1, 0)
    cloud.settle(mine[0])
    assert cloud.take(*theirs[2:]).plan.overflowed == 1
