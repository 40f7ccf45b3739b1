"""What the gateway takes: memory with 20 wearables and its growth over a million readings, start-up, and disk.

The million comes at 30,000 readings/s; a tenth as many go before, so that what is compared are two peaks of one height.

Start-up runs from the start of `iomt-gateway run` to its first bundle at the broker. The base install is made anew from
its lock, for `site-packages` alone, without pip and setuptools.
"""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiomqtt

from bench import _rig
from bench._measure import spread
from gateway.errors import GatewayError
from gateway.identity.tls import client_context
from gateway.lab.process import Child
from gateway.lab.site import Site

_WEARABLES = 20
_SETTLE_S = 8
_MILLION = 1_000_000
_STARTS = 5
_LOCK = Path(__file__).parent.parent / "requirements" / "base.txt"
_NOT_OURS = ("pip", "setuptools", "_distutils_hack", "distutils-precedence", "pkg_resources")


def run() -> dict[str, Any]:
    """Measure; mosquitto has to be installed."""
    settled, before, after = asyncio.run(_memory())
    starts_s = [asyncio.run(_start_s()) for _ in range(_STARTS)]
    results = {
        "memory with 20 wearables": spread([settled / 1e6], "MB"),
        "memory after a burst": spread([before / 1e6], "MB"),
        "growth over a million readings": spread([(after - before) / 1e6], "MB"),
        "start to first bundle at the broker": spread(starts_s, "s"),
        "base install": spread([_installed_bytes() / 1e6], "MB"),
    }
    return {"results": results, "ratios": {}}


async def _memory() -> tuple[int, int, int]:
    """Resident bytes with 20 wearables at one value a second, after a burst, and after a million readings more."""
    with _rig.place() as root:
        site = _rig.lay_out(root)
        log = site.logs / "gateway.log"
        async with _rig.broker(site), _rig.receiver(site):
            command = ("bench._source", str(site.gateway_config), str(_WEARABLES), "1", "--burst", str(_MILLION))
            child = await Child.serve("gateway", *command, logs=site.logs)
            try:
                sizes = []
                for said in ("", "warm-up is over", "burst is over"):
                    await _rig.until(lambda said=said: said in log.read_text(), 300)  # type: ignore[misc] # a bound value
                    await asyncio.sleep(_SETTLE_S)
                    sizes.append(_rig.resident_bytes(child.pid))
                settled, before, after = sizes
                return settled, before, after
            finally:
                await child.kill()


async def _start_s() -> float:
    """Seconds until the broker has the first bundle of a gateway process."""
    with _rig.place() as root:
        site = _rig.lay_out(root)
        config = site.gateway_config
        config.write_text(config.read_text().replace(f'"virtual:{site.radio}"', '"none"'))
        async with _rig.broker(site), _as_receiver(site) as client:
            await client.subscribe("v1/gw/+/up/data", qos=1)
            started_s = _rig.now_s()
            child = await Child.run(
                "gateway",
                *(sys.executable, "-m", "gateway.cli.gateway", "run", "--config", str(config)),
                logs=site.logs,
            )
            try:
                async with asyncio.timeout(30):
                    await anext(client.messages)
                return _rig.now_s() - started_s
            except TimeoutError:
                raise GatewayError(f"the gateway sent nothing: {child.last_words()}") from None
            finally:
                await child.kill()


def _as_receiver(site: Site) -> aiomqtt.Client:
    """The one who may listen to every gateway."""
    tls = client_context(*(site.pki / name for name in ("ca.crt", "receiver.crt", "receiver.key")))
    return aiomqtt.Client(
        "127.0.0.1",
        site.broker_port,
        identifier="receiver",
        tls_context=tls,
        protocol=aiomqtt.ProtocolVersion.V5,
    )


def _installed_bytes() -> int:
    """What the base install's requirements take on the disk."""
    with _rig.place() as root:
        install = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-compile"]
        subprocess.run(
            [sys.executable, "-m", "pip", *install, "--target", root / "site", "-r", _LOCK],
            check=True,
            stdout=sys.stderr,
        )
        kept = (path for path in (root / "site").iterdir() if not path.name.startswith(_NOT_OURS))
        files = (file for path in kept for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
        return sum(file.stat().st_size for file in files)
