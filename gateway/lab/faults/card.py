"""Faults of the card: a torn tail, flipped bits, a full disk, a disk that refuses."""

import asyncio
import errno
import io
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

from gateway.lab import small_disk
from gateway.lab.faults.fault import Effect, Fault, gateway_total, refused_writes, watch
from gateway.lab.rig import Rig
from gateway.lab.schedule import Cost
from gateway.model import Link
from gateway.outbox.framing import Damage, Frame, FrameKind, Trailer, decode_trailer, encode_frame, scan

_SEEN_S = 20.0
_TOLD_S = 60.0
_FAILURES = "iomt_gateway_outbox_failures_total"
_REFUSING = "iomt_gateway_outbox_refusing"
_CHUNK_BYTES = 1 << 20
_REFILL_S = 0.02


async def _torn_tail(rig: Rig, hold_s: float, rng: random.Random) -> Effect:
    await rig.kill_gateway()
    path = _newest_segment(rig)
    end = max(each.end for each in scan(path.read_bytes()))
    whole = encode_frame(FrameKind.BUNDLE, rng.randbytes(1024), rng.randbytes(128), end)
    torn = whole[: rng.randrange(1, len(whole))]
    with path.open("r+b") as file:
        file.seek(end)
        file.write(torn)
        os.fsync(file.fileno())
    found = any(isinstance(each, Damage) and each.offset >= end for each in scan(path.read_bytes()))
    await asyncio.sleep(hold_s)
    await rig.start_gateway()
    return Effect(
        took=found,
        seen=f"{len(torn)} bytes of a frame of {len(whole)} behind the last whole one; the gateway started",
    )


async def _flipped_bits(rig: Rig, hold_s: float, rng: random.Random) -> Effect:
    rig.proxy.cut()
    await watch(partial(_single_frames, rig), lambda found: len(found) > 1, within_s=_SEEN_S)
    await rig.kill_gateway()
    found = await _single_frames(rig)
    frame, trailer = rng.choice(found) if found else (None, None)
    damaged = frame is not None and _flip(_newest_segment(rig), frame, rng)
    await asyncio.sleep(hold_s)
    await rig.start_gateway()
    rig.proxy.mend()
    if trailer is None:
        return Effect(took=False, seen="no bundle that waited lies on the disk once")
    causes = await watch(partial(_told, rig, trailer.link), bool, within_s=_TOLD_S)
    records = sum(span.count for span in trailer.spans)
    return Effect(
        took=damaged,
        seen=f"one bit of a bundle with {records} records that no receipt covered; the receiver was told"
        f" {', '.join(causes) or 'nothing'}",
        broken="" if causes else f"no signed record tells of it within {_TOLD_S:.0f} s",
    )


async def _single_frames(rig: Rig) -> list[tuple[Frame, Trailer]]:
    """Frames of readings in the newest segment that lie there once and are not in the store, but for the last."""
    frames = [each for each in scan(_newest_segment(rig).read_bytes()) if isinstance(each, Frame)]
    found = [(each, decode_trailer(each.trailer)) for each in frames if each.kind == FrameKind.BUNDLE]
    copies = Counter(trailer.link for _, trailer in found)
    own, committed = set(rig.streams.values()), rig.cloud.bundles()
    return [
        (frame, trailer)
        for frame, trailer in found[:-1]
        if copies[trailer.link] == 1
        and (trailer.link.chain, trailer.link.no) not in committed
        and own.intersection(span.stream.hex() for span in trailer.spans)
    ]


def _flip(path: Path, frame: Frame, rng: random.Random) -> bool:
    """Flip one bit of a frame's bundle; returns whether the reader of segments finds it damaged, and it alone."""
    before = set(scan(path.read_bytes()))
    bit = rng.randrange(8 * len(frame.bundle))
    with path.open("r+b") as file:
        at = frame.end - len(frame.trailer) - len(frame.bundle) + bit // 8
        file.seek(at)
        [octet] = file.read(1)
        file.seek(at)
        file.write(bytes([octet ^ 1 << bit % 8]))
        os.fsync(file.fileno())
    return set(scan(path.read_bytes())) == before - {frame} | {Damage(frame.offset, frame.end)}


async def _told(rig: Rig, link: Link) -> list[str]:
    """The causes with which the receiver was told that a bundle will never come."""
    return [each.cause for each in rig.cloud.holes() if each.chain == link.chain and link.no in each.numbers]


async def _full_disk(rig: Rig, hold_s: float, _: random.Random) -> Effect:
    """The start finds the room that was allocated ahead, and no more for the next segment."""
    told = len(rig.cloud.holes())
    spare = rig.site.outbox / "spare"
    async with _filled(rig.site.gateway_state / "ballast"):
        await rig.kill_gateway()
        await rig.start_gateway()
        await asyncio.sleep(hold_s)
        failures = await gateway_total(rig, _FAILURES)
        starved = not spare.exists()
        stored = len(rig.cloud.rows())
    told = len(rig.cloud.holes()) - told

    async def recovered() -> bool:
        return spare.exists() and not await gateway_total(rig, _REFUSING) and len(rig.cloud.rows()) > stored

    again = await watch(recovered, bool, within_s=_TOLD_S)
    return Effect(
        took=starved,
        seen=f"no byte was free, and the next segment had no room; flushes refused: {failures:.0f}; holes told: {told}",
        broken="" if again else f"nothing was made durable {_TOLD_S:.0f} s after there was room again",
    )


@asynccontextmanager
async def _filled(ballast: Path) -> AsyncIterator[None]:
    """Leave no byte free on a file system, whatever is freed there, until the end."""
    with ballast.open("wb", buffering=0) as file:
        _fill(file)
        filling = asyncio.create_task(_keep_full(file))
        try:
            yield
        finally:
            filling.cancel()
            await asyncio.wait([filling])
            ballast.unlink()


async def _keep_full(file: io.RawIOBase) -> NoReturn:
    while True:
        await asyncio.sleep(_REFILL_S)
        _fill(file)


def _fill(file: io.RawIOBase) -> None:
    """Write until the file system says ENOSPC."""
    try:
        while True:
            file.write(bytes(_CHUNK_BYTES))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


async def _disk_refuses(rig: Rig, hold_s: float, _: random.Random) -> Effect:
    before = await gateway_total(rig, _FAILURES)
    with refused_writes(rig.children["gateway"]):
        await watch(lambda: gateway_total(rig, _FAILURES), lambda now: now > before, within_s=_SEEN_S)
        await asyncio.sleep(hold_s)
        failures = await gateway_total(rig, _FAILURES) - before
        refusing = await gateway_total(rig, _REFUSING)
        stored = len(rig.cloud.rows())

    async def recovered() -> bool:
        return not await gateway_total(rig, _REFUSING) and len(rig.cloud.rows()) > stored

    again = await watch(recovered, bool, within_s=_TOLD_S)
    return Effect(
        took=failures > 0 and refusing > 0,
        seen=f"nothing could be written for {hold_s:.1f} s; flushes refused: {failures:.0f}, while the gateway went on",
        broken="" if again else f"nothing was made durable {_TOLD_S:.0f} s after writes worked again",
    )


def _newest_segment(rig: Rig) -> Path:
    return max(rig.site.outbox.glob("*.seg"))


def _without_small_disk(rig: Rig) -> str:
    return "" if rig.on_small_disk else small_disk.impossible(rig.site.root.parent)


FAULTS = (
    Fault("torn-tail", "a frame half written at the end of the outbox, after SIGKILL", Cost(0.0, 1.0, 3.0), _torn_tail),
    Fault(
        "flipped-bits",
        "a bit flipped of a bundle that waits in the outbox, after SIGKILL",
        Cost(0.0, 1.0, 12.0),
        _flipped_bits,
    ),
    Fault(
        "full-disk",
        "no byte free where the gateway keeps its state, while it is killed and started",
        Cost(2.0, 5.0, 8.0),
        _full_disk,
        _without_small_disk,
    ),
    Fault(
        "disk-refuses",
        "every write of the gateway to its files is refused (EFBIG)",
        Cost(1.0, 4.0, 6.0),
        _disk_refuses,
    ),
)
