"""What waited through an outage drains behind the live, over real brokers and with a real outbox."""

import asyncio
import os
from pathlib import Path

import pytest

from gateway.envelope.keys import signer_for
from gateway.envelope.seal import ChainWriter
from gateway.identity.files import load_private_key, load_recipient_key
from gateway.model import Batch, Event, Lane, Receipt

from .conftest import Broker, eventually
from .test_uplink import GATEWAY, NOW_MS, STREAM, Box, Cloud, make_box, receiving, running

BACKLOG = 60


@pytest.fixture
def box(pki: Path, tmp_path: Path) -> Box:
    return make_box(pki, tmp_path)


class Ward:
    """A box that goes on sealing, and begins a segment where one is asked for, as the pipeline does."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self._wanted = False
        box.uplink.on_backlog = self._want

    def _want(self) -> None:
        self._wanted = True

    async def run(self) -> None:
        while True:
            if self._wanted:
                self._wanted = False
                await self.box.outbox.roll()
                self.box.writer.end_segment()
            await self.box.seal(1)
            await asyncio.sleep(0.05)


def slow_down(cloud: Cloud, seconds: float) -> None:
    """Let each receipt take its time."""
    send, loop = cloud.send, asyncio.get_running_loop()

    def later(receipt: Receipt) -> None:
        loop.call_later(seconds, send, receipt)

    cloud.send = later  # type: ignore[method-assign, assignment] # the test's own class


async def test_live_bundles_overtake_the_backlog_of_an_outage(broker: Broker, box: Box) -> None:
    await box.seal(BACKLOG)
    async with receiving(broker) as cloud:
        slow_down(cloud, 0.1)
        async with running(box, broker.endpoint):
            live = asyncio.create_task(Ward(box).run())
            await eventually(lambda: set(range(BACKLOG)) <= set(cloud.arrived))
            live.cancel()
            await asyncio.gather(live, return_exceptions=True)
            await eventually(lambda: box.waiting == 0)
    start = box.outbox.segment_start()
    before, ahead = [each for each in cloud.arrived if each < start], [each for each in cloud.arrived if each >= start]
    assert BACKLOG < start < 2 * BACKLOG
    assert (before, ahead) == (sorted(before), sorted(ahead))
    overtaken = [each for each in cloud.arrived[cloud.arrived.index(start) :] if each < start]
    assert len(overtaken) > BACKLOG // 2
    last_behind = cloud.arrived.index(before[-1])
    assert len([each for each in cloud.arrived[:last_behind] if each >= start]) > 5


async def test_an_alarm_goes_before_everything_that_waits(broker: Broker, box: Box) -> None:
    await box.seal(BACKLOG)
    alarm = ChainWriter(
        gateway=GATEWAY,
        chain=os.urandom(16),
        signer=signer_for(load_private_key(box.pki / "gateways" / GATEWAY / "sign.key")),
        recipients=[load_recipient_key(box.pki / "recipient.key").recipient],
        predecessor=None,
        random=os.urandom,
    )

    async def sound() -> None:
        if not box.outbox.fits(Lane.URGENT):
            await box.outbox.roll(Lane.URGENT)
        bundle, _ = alarm.seal([Batch(STREAM, (Event(NOW_MS, "alarm"),))], now_ms=NOW_MS)
        box.outbox.append(bundle, lane=Lane.URGENT)
        await box.outbox.sync(Lane.URGENT)

    await sound()
    async with receiving(broker) as cloud:
        slow_down(cloud, 0.1)
        async with running(box, broker.endpoint):
            await eventually(lambda: len(cloud.arrived) > 6)
            before = len(cloud.arrived)
            await sound()
            await eventually(lambda: cloud.chains.count(alarm.chain) == 2)
            after = len(cloud.arrived)
            await eventually(lambda: box.waiting == 0)
    assert cloud.chains[0] == alarm.chain
    assert after - before < BACKLOG // 2


async def test_a_few_that_waited_go_in_order_with_the_live(broker: Broker, box: Box) -> None:
    await box.seal(3)
    async with receiving(broker) as cloud, running(box, broker.endpoint):
        await eventually(lambda: box.waiting == 0)
        await box.seal(3)
        await eventually(lambda: box.waiting == 0)
        assert cloud.arrived == list(range(6))
