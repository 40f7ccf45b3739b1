"""Records a pairing for `docs/pairing.md`: the real command in a terminal, against the real daemon and a virtual meter.

`python -m gateway.lab.pairing_session --text docs/pairing.txt --svg docs/pairing.svg`. What differs from run to run is
the six digits, the reading, the time and the stream.
"""

import argparse
import asyncio
import io
import re
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gateway.lab.air import Air
from gateway.lab.devices import CGM_ADDRESS, Cgm, GlucoseMeter
from gateway.lab.peripheral import LedgerWriter
from gateway.lab.process import Child
from gateway.lab.session import Session, plain
from gateway.lab.site import Site, build, free_port

_PROMPT = "$ "


async def record(root: Path) -> str:
    """What the terminal showed, colours included, of pairing a meter and looking at it afterwards."""
    site = Site(root, broker_port=(port := free_port()), uplink_port=port)
    build(site, devices={})
    ledger = LedgerWriter(site.ledger)
    air = Air()
    cgm = Cgm(air.link, ledger=ledger, seed=1, address=CGM_ADDRESS)
    meter = GlucoseMeter(air.link, ledger=ledger, seed=1)
    await air.serve(site.radio)
    for wearable in (cgm, meter):
        await wearable.start()
    config = ["--config", str(site.gateway_config)]
    daemon = await Child.serve("gateway", "gateway.cli.gateway", "run", *config, logs=site.logs)
    try:
        shown = f"{_PROMPT}iomt-gateway devices pair\n{await _pair(meter, config)}"
        listing = await Session.start(sys.executable, "-m", "gateway.cli.gateway", "devices", "list", *config)
        await listing.wait()
        return f"{shown}{_PROMPT}iomt-gateway devices list\n{listing.written}"
    finally:
        await daemon.kill()
        await air.close()
        for wearable in (cgm, meter):
            await wearable.stop()
        ledger.close()


async def _pair(meter: GlucoseMeter, config: list[str]) -> str:
    """The dialogue, typed as a person would."""
    session = await Session.start(sys.executable, "-m", "gateway.cli.gateway", "devices", "pair", *config)
    await session.expect("quit:")
    [no] = [line.split()[0] for line in session.text.splitlines() if "glucose meter" in line]
    session.type(f"{no}\n")
    await session.expect(r"same\? \[yes/no\]")
    session.type("yes\n")
    await session.expect("Waiting for a reading")
    while not meter.subscribers(meter._measurement):  # noqa: SLF001, ASYNC110 - whether somebody listens knows no event
        await asyncio.sleep(0.1)
    await asyncio.sleep(2)  # a person is no quicker; by then what it has stored was fetched
    await meter.measure()
    await session.expect(r"same\? \[yes/no\]")
    session.type("yes\n")
    await session.expect("Enter: none.")
    session.type("bed 4\n")
    await session.wait()
    return session.written


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m gateway.lab.pairing_session", description="Record a pairing.")
    parser.add_argument("--text", type=Path, required=True, metavar="FILE", help="as it stands on the screen")
    parser.add_argument("--svg", type=Path, required=True, metavar="FILE", help="the same as a picture")
    arguments = parser.parse_args()
    text, svg = arguments.text.absolute(), arguments.svg.absolute()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        written = asyncio.run(record(Path()))
    text.write_text(plain(written))
    picture = Console(width=80, record=True, force_terminal=True, file=io.StringIO())
    lines = [line.rpartition("\r")[2] for line in written.replace("\r\n", "\n").split("\n")]
    picture.print(Text.from_ansi("\n".join(lines)))
    # Readers of the picture use a font of their own, not one from somebody's server.
    svg.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture.export_svg(title="iomt-gateway"), flags=re.DOTALL))


if __name__ == "__main__":
    main()
