"""Chains that contradict themselves: every contradiction is an alarm, whatever the order."""

from dataclasses import replace

import pytest

from gateway.envelope.keys import VerifyKey
from gateway.model import Link, Refusal
from tests.receiver.conftest import Box, Cloud, signer
from tests.receiver.facts import A, causes, count, covers, forks, link, resealed


def test_a_chain_has_one_signer(gw: Box, cloud: Cloud) -> None:
    heir = Box("gw-1", signed_by=signer("heir"))
    key = VerifyKey(heir.signer.alg, heir.signer.public)
    cloud.intake = replace(cloud.intake, registry={**cloud.intake.registry, key.kid: ("gw-1", key)})
    first, second = gw.tick(A), resealed(heir.tick(A), heir, no=1)
    assert link(first).chain == link(second).chain
    receipt = cloud.receipts(cloud.take(first, second))["gw-1"]
    assert (receipt.ranges, receipt.refused) == ((covers(first),), (Refusal(link(first).chain, 1, "signer"),))
    assert cloud.receipts(cloud.take(second))["gw-1"].refused == receipt.refused


def test_the_same_number_with_another_hash_is_a_fork_and_no_data(gw: Box, cloud: Cloud) -> None:
    twin = Box("gw-1")
    first, second = gw.tick(A, count=1), twin.tick(A, count=2)
    assert link(first).chain == link(second).chain
    cloud.take(first)
    taken = cloud.take(second)
    assert cloud.receipts(taken)["gw-1"].refused == (Refusal(link(second).chain, 0, "fork"),)
    assert (forks(cloud), causes(cloud), count(cloud)) == (["same-number"], ["fork"], 1)
    assert taken.committed.forks == 1
    assert cloud.take(second).committed.forks == 0


@pytest.mark.parametrize("backwards", [False, True])
def test_two_successors_of_one_chain_are_both_stored_with_an_alarm(gw: Box, cloud: Cloud, backwards: bool) -> None:  # noqa: FBT001 - a parameter of the test
    messages = [gw.tick()]
    for _ in range(2):
        gw.restart(link(messages[0]))
        messages.append(gw.tick())
    for message in reversed(messages) if backwards else messages:
        assert cloud.receipts(cloud.take(message))["gw-1"].ranges == (covers(message),)
    assert (forks(cloud), count(cloud)) == (["two-successors"], 3)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_successor_that_names_less_than_is_stored_raises_the_alarm(gw: Box, cloud: Cloud, backwards: bool) -> None:  # noqa: FBT001 - a parameter of the test
    ticks = [gw.tick() for _ in range(2)]
    gw.restart(link(ticks[0]))
    messages = [*ticks, gw.tick()]
    for message in reversed(messages) if backwards else messages:
        cloud.settle(message)
    assert (forks(cloud), count(cloud)) == (["successor-behind"], 3)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_successor_that_names_another_hash_raises_the_alarm(gw: Box, cloud: Cloud, backwards: bool) -> None:  # noqa: FBT001 - a parameter of the test
    first = gw.tick()
    gw.restart(Link(link(first).chain, 0, b"\x55" * 32))
    messages = [first, gw.tick()]
    for message in reversed(messages) if backwards else messages:
        cloud.take(message)
    assert (forks(cloud), count(cloud)) == (["broken-link"], 2)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_a_bundle_that_names_another_one_before_it_raises_the_alarm(
    gw: Box, cloud: Cloud, order: tuple[int, ...]
) -> None:
    ticks = [gw.tick() for _ in range(3)]
    ticks[2] = resealed(ticks[2], gw, no=2, prev=b"\x55" * 32)
    for number in order:
        cloud.take(ticks[number])
    assert (forks(cloud), count(cloud)) == (["broken-link"], 3)


def test_contradictions_within_one_batch_are_seen(gw: Box, cloud: Cloud) -> None:
    messages = [gw.tick()]
    for predecessor in (link(messages[0]), link(messages[0]), None):
        gw.restart(predecessor)
        messages.append(gw.tick())
    cloud.take(*messages)
    assert (forks(cloud), count(cloud)) == (["second-root", "two-successors"], 4)


def test_an_unannounced_second_beginning_raises_the_alarm(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.tick())
    gw.restart(None)
    message = gw.tick()
    assert cloud.receipts(cloud.take(message))["gw-1"].ranges == (covers(message),)
    assert forks(cloud) == ["second-root"]


def test_an_honest_restart_raises_no_alarm(gw: Box, cloud: Cloud) -> None:
    messages = [gw.tick(), gw.tick()]
    gw.restart(gw.head)
    messages.append(gw.tick())
    cloud.settle(messages[2])
    cloud.settle(messages[1])
    cloud.settle(messages[0])
    assert (forks(cloud), count(cloud)) == ([], 3)
