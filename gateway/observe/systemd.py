"""Telling the service manager how we are (sd_notify(3)); without one, nothing happens."""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress

from gateway.observe.progress import Pulse

_log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send `state`, such as "READY=1", where NOTIFY_SOCKET says; a listener that is gone or busy is left alone."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock, suppress(OSError):
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.send(state.encode())


async def watchdog(pulses: Mapping[str, Pulse]) -> None:
    """Feed the watchdog twice per interval that WATCHDOG_USEC allows, while none of `pulses` is late by half of it.

    That the event loop turns is proven by the feeding itself.
    """
    interval_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
    stuck: list[str] = []
    while interval_s:
        late = [name for name, pulse in pulses.items() if pulse.late_s() > interval_s]
        if not late:
            notify("WATCHDOG=1")
        elif late != stuck:
            _log.critical("no progress of %s: unless that ends, systemd ends this process", " and ".join(late))
        stuck = late
        await asyncio.sleep(interval_s)
