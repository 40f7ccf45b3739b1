"""Virtual wearables in a process of their own, which outlives a killed gateway: `python -m gateway.lab.wearables`.

Says {"event": "ready"} on standard output once they advertise and a gateway may attach to `--hci`. The ledger is the
truth of what they measured and whether a link was there to carry it. See `devices.CgmPace` for how time passes.
"""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from gateway.lab.air import Air
from gateway.lab.bonds import BondStore
from gateway.lab.devices import Cgm, CgmPace, GlucoseMeter, PulseOximeter
from gateway.lab.peripheral import LedgerWriter

_PROFILES = ("cgm", "plx", "gls")
MOST = 255
"""So many wearables have an address."""
_METER_BACKLOG = 6
"""Results of the last day, which are in a meter's store when the gateway first meets it."""


def roster(count: int) -> dict[str, str]:
    """Profile by address, as an inventory wants it, of up to 255 wearables: CGM, oximeter, meter, and again."""
    return {f"F0:00:00:00:01:{place + 1:02X}": _PROFILES[place % len(_PROFILES)] for place in range(count)}


async def serve(arguments: argparse.Namespace) -> None:
    """Keep the wearables on the air until the process ends."""
    ledger = LedgerWriter(arguments.ledger)
    air = Air()
    devices = roster(arguments.count)
    wearables = [
        _wearable(arguments, air, ledger, address=address, profile=profile, body=place // len(_PROFILES))
        for place, (address, profile) in enumerate(devices.items())
    ]
    for wearable in wearables:
        if arguments.bonds and (keys := await BondStore(arguments.bonds).get(wearable.address)):
            await wearable.take_bond(keys)
        await wearable.start()
    await air.serve(arguments.hci)
    sys.stdout.write(json.dumps({"event": "ready", "devices": devices}) + "\n")
    sys.stdout.flush()
    async with asyncio.TaskGroup() as group:
        for wearable in wearables:
            group.create_task(wearable.run(), name=wearable.address)


def _wearable(
    arguments: argparse.Namespace, air: Air, ledger: LedgerWriter, *, address: str, profile: str, body: int
) -> Cgm | PulseOximeter | GlucoseMeter:
    seed = arguments.seed + body * len(_PROFILES)
    match profile:
        case "cgm":
            pace = CgmPace(
                session_age_s=arguments.session_age_s,
                lag_min=arguments.lag_min,
                minute_s=arguments.minute_s,
                interval_min=arguments.interval_min,
            )
            return Cgm(air.link, ledger=ledger, seed=seed, address=address, pace=pace)
        case "plx":
            interval_s = arguments.oximeter_interval_s
            return PulseOximeter(air.link, ledger=ledger, seed=seed, address=address, interval_s=interval_s)
        case _:
            interval_s = arguments.meter_interval_s
            return GlucoseMeter(
                air.link, ledger=ledger, seed=seed, address=address, interval_s=interval_s, backlog=_METER_BACKLOG
            )


_PACE = CgmPace()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gateway.lab.wearables", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--hci", type=Path, required=True, help="Unix socket for a gateway's radio, in a private directory"
    )
    parser.add_argument("--ledger", type=Path, required=True, help="file for what was measured, JSON lines")
    parser.add_argument("--count", type=int, default=3, help="how many: CGM, oximeter, meter, and again")
    parser.add_argument("--bonds", type=Path, help="a gateway's bonds, made beforehand")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--session-age-s", type=float, default=_PACE.session_age_s, help="age of the CGM's session")
    parser.add_argument("--lag-min", type=int, default=_PACE.lag_min, help="how far the CGM's clock lags at the start")
    parser.add_argument("--minute-s", type=float, default=_PACE.minute_s, help="seconds a minute of the CGM takes")
    parser.add_argument("--interval-min", type=int, default=_PACE.interval_min, help="minutes between CGM records")
    parser.add_argument("--oximeter-interval-s", type=float, default=1.0, help="seconds between oximeter values")
    parser.add_argument("--meter-interval-s", type=float, default=4.0, help="seconds between glucose meter readings")
    return parser.parse_args()


def main() -> None:
    """Entry point; SIGTERM and SIGINT end it at once, as a flat battery would."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(serve(arguments))


if __name__ == "__main__":
    main()
