"""Telling the service manager how we are (sd_notify(3)); without one, nothing happens."""

import asyncio
import os
import socket
from contextlib import suppress


def notify(state: str) -> None:
    """Send `state`, such as "READY=1", where NOTIFY_SOCKET says; a listener that is gone or busy is left alone."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock, suppress(OSError):
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.send(state.encode())


async def watchdog() -> None:
    """Prove that the event loop turns, twice per interval that WATCHDOG_USEC allows."""
    interval_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
    while interval_s:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)
