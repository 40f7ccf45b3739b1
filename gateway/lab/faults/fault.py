"""What a fault is: something done to a rig, and the evidence that it took effect."""

import asyncio
import random
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from gateway.lab.process import Child
from gateway.lab.rig import Rig
from gateway.lab.schedule import Cost

T = TypeVar("T")

KEEPALIVE_S = 5
"""The gateway's, in a rig that is to see faults."""
LOST = "iomt_gateway_uplink_reconnects_total"
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Effect:
    """What was seen of one fault."""

    took: bool
    """The injection did what it was meant to do; without that the run proves nothing."""
    seen: str
    """The evidence, for people."""
    broken: str = ""
    """What the gateway or the receiver did wrong about it; empty: nothing."""


def _always(_: Rig) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault."""

    name: str
    does: str
    """What is done, for people."""
    cost: Cost
    inject: Callable[[Rig, float, random.Random], Awaitable[Effect]]
    """Do it for so many seconds, undo it, and say what was seen."""
    impossible: Callable[[Rig], str] = _always
    """Why it cannot be done here; empty: it can."""


async def watch(look: Callable[[], Awaitable[T]], wanted: Callable[[T], bool], *, within_s: float) -> T:
    """Look until it is as wanted or the time is over; returns what was seen last. Raises what `look` raises then."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            seen = await look()
        except OSError:
            if time.monotonic() > deadline:
                raise
        else:
            if wanted(seen) or time.monotonic() > deadline:
                return seen
        await asyncio.sleep(_LOOK_S)


async def gateway_total(rig: Rig, name: str, **labels: str) -> float:
    """What the gateway counts. Raises `OSError` if it does not answer."""
    return (await rig.gateway()).total(name, **labels)


@contextmanager
def refused_writes(child: Child) -> Iterator[None]:
    """Let the kernel refuse every write of a process to a regular file, with EFBIG, until the end."""
    soft, hard = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (soft, hard))


async def lost_beyond(rig: Rig, before: float, *, within_s: float) -> float:
    """How many connections the gateway has lost since it had lost `before`, as soon as there is one."""
    return await watch(lambda: gateway_total(rig, LOST), lambda now: now > before, within_s=within_s) - before
