"""What the gateway's process costs: 20 wearables, 100 readings/s in all, default tick, Bluetooth apart.

Everything else is on: sealing, signing, fdatasync, mutual TLS, receipts. ThingsBoard's gateway beside it takes the same
readings at the same time, without any of that.
"""

import asyncio
from typing import Any

from bench import _rig, _thingsboard
from bench._measure import spread
from gateway.lab.process import Child

_WEARABLES = 20
_TURNS_PER_S = 5
_SETTLE_S = 4
_WINDOWS = 4
_WINDOW_S = 5


def run() -> dict[str, Any]:
    """Measure; mosquitto has to be installed."""
    ours, theirs = asyncio.run(_both())
    results = {"gateway": spread(ours, "% of a core"), "ThingsBoard": spread(theirs, "% of a core")}
    ratio = float(results["ThingsBoard"]["median"]) / float(results["gateway"]["median"])
    return {"results": results, "ratios": {"ThingsBoard / here": ratio}}


async def _both() -> tuple[list[float], list[float]]:
    """Percent of a core in each window, of both at the same time."""
    with _rig.place() as root:
        site = _rig.lay_out(root)
        command = ("bench._source", str(site.gateway_config), str(_WEARABLES), str(_TURNS_PER_S))
        async with (
            _rig.broker(site),
            _rig.receiver(site),
            _thingsboard.plain_broker(root) as port,
            _thingsboard.observed(port) as cloud,
            _thingsboard.running(root / "peer", port, cloud) as peer,
        ):
            child = await Child.serve("gateway", *command, logs=site.logs)
            feeding = asyncio.create_task(_feed(peer))
            try:
                await asyncio.sleep(_SETTLE_S)
                shares: tuple[list[float], list[float]] = ([], [])
                for _ in range(_WINDOWS):
                    before = [_rig.processor_s(pid) for pid in (child.pid, peer.pid)]
                    await asyncio.sleep(_WINDOW_S)
                    for share, pid, used_s in zip(shares, (child.pid, peer.pid), before, strict=True):
                        share.append(100 * (_rig.processor_s(pid) - used_s) / _WINDOW_S)
                return shares
            finally:
                feeding.cancel()
                await child.kill()


async def _feed(peer: _thingsboard.ThingsBoard) -> None:
    number = 0
    while True:
        peer.push(_WEARABLES, 1, number)
        number += 1
        await asyncio.sleep(1 / _TURNS_PER_S)
