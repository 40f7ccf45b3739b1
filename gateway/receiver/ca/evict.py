"""Ending the live connection of a gateway that was revoked: brokers read a CRL when somebody connects, not later.

Somebody else connects in its name, with a certificate made for this alone and revoked at once: a broker allows one
connection per client id, so the other one ends, and a revoked certificate does not get in again.
"""

import datetime as dt
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gateway.durable import write_once
from gateway.errors import UplinkError
from gateway.identity.chain import pem
from gateway.identity.files import private_pem
from gateway.identity.tls import client_context
from gateway.receiver.ca.authority import Authority
from gateway.receiver.ca.issue import new_key, profiles
from gateway.uplink.mqtt import Connection

_PROFILE = "eviction"
_TIMEOUT_S = 10.0


async def evict(authority: Authority, gateway: str, endpoints: Sequence[str], ca: Path) -> list[str]:
    """Take a gateway's connection over at every broker, and let go; returns what could not be reached, and why."""
    key = new_key(profiles()[_PROFILE])
    now = dt.datetime.now(dt.UTC)
    certificate = authority.issue(_PROFILE, gateway, key.public_key(), now=now)
    issuers = [each.issuer for each in authority.generations(now)]
    failed = []
    try:
        with tempfile.TemporaryDirectory() as name:
            files = Path(name, "crt"), Path(name, "key")
            write_once(files[0], pem([certificate, *issuers]))
            write_once(files[1], private_pem(key))
            tls = client_context(ca, *files)
            for endpoint in endpoints:
                connection = Connection(
                    endpoint,
                    client_id=gateway,
                    tls=tls,
                    keepalive_s=60,
                    timeout_s=_TIMEOUT_S,
                    clean_start=True,
                    session_expiry_s=0,
                    receive_maximum=1,
                    will=None,
                )
                try:
                    async with connection:
                        connection.publish(f"v1/gw/{gateway}/status", b"", retain=True)
                except UplinkError as error:
                    failed.append(str(error))
    finally:
        authority.revoke(gateway, now=now)
    return failed
