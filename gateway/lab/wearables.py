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
from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS, PLX_ADDRESS, Cgm, CgmPace, GlucoseMeter, PulseOximeter
from gateway.lab.peripheral import LedgerWriter

DEVICES = {CGM_ADDRESS: "cgm", PLX_ADDRESS: "plx", GLS_ADDRESS: "gls"}
"""Profile by address, as an inventory wants it."""


async def serve(*, hci: Path, ledger_path: Path, seed: int, pace: CgmPace, meter_interval_s: float) -> None:
    """Keep the three wearables on the air until the process ends."""
    ledger = LedgerWriter(ledger_path)
    air = Air()
    wearables = (
        Cgm(air.link, ledger=ledger, seed=seed, pace=pace),
        PulseOximeter(air.link, ledger=ledger, seed=seed),
        GlucoseMeter(air.link, ledger=ledger, seed=seed, interval_s=meter_interval_s),
    )
    for wearable in wearables:
        await wearable.start()
    await air.serve(hci)
    sys.stdout.write(json.dumps({"event": "ready", "devices": DEVICES}) + "\n")
    sys.stdout.flush()
    async with asyncio.TaskGroup() as group:
        for wearable in wearables:
            group.create_task(wearable.run(), name=wearable.device.name)


_PACE = CgmPace()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gateway.lab.wearables", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--hci", type=Path, required=True, help="Unix socket for a gateway's radio, in a private directory"
    )
    parser.add_argument("--ledger", type=Path, required=True, help="file for what was measured, JSON lines")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--session-age-s", type=float, default=_PACE.session_age_s, help="age of the CGM's session")
    parser.add_argument("--lag-min", type=int, default=_PACE.lag_min, help="how far the CGM's clock lags at the start")
    parser.add_argument("--minute-s", type=float, default=_PACE.minute_s, help="seconds a minute of the CGM takes")
    parser.add_argument("--interval-min", type=int, default=_PACE.interval_min, help="minutes between CGM records")
    parser.add_argument("--meter-interval-s", type=float, default=4.0, help="seconds between glucose meter readings")
    return parser.parse_args()


def main() -> None:
    """Entry point; SIGTERM and SIGINT end it at once, as a flat battery would."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    pace = CgmPace(
        session_age_s=arguments.session_age_s,
        lag_min=arguments.lag_min,
        minute_s=arguments.minute_s,
        interval_min=arguments.interval_min,
    )
    asyncio.run(
        serve(
            hci=arguments.hci,
            ledger_path=arguments.ledger,
            seed=arguments.seed,
            pace=pace,
            meter_interval_s=arguments.meter_interval_s,
        )
    )


if __name__ == "__main__":
    main()
