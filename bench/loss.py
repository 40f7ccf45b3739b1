"""Killed again and again during an outage: what was accepted and never arrived.

Twenty times SIGKILL at a random moment while 1,000 readings/s come in and the broker is away; then it comes back and
everything drains. Accepted is what was fdatasynced, and for the peers what their own interface said it had: ThingsBoard's
SQLite store returned from `put`, a local mosquitto with persistence, bridged to the broker, sent a PUBACK. In the air is
what was handed in and not accepted when the kill came.
"""

import asyncio
import random
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiomqtt

from bench import _rig, _thingsboard
from bench._measure import spread
from bench._thingsboard import Cloud
from gateway.errors import ConfigError, GatewayError
from gateway.lab import mosquitto
from gateway.lab.process import Child
from gateway.lab.site import Site, free_port

_KILLS = 20
_LIVES_S = (0.5, 1.5)
_PER_S = 1_000
_TURNS_PER_S = 50
_SETTLED_S = 5.0


def run() -> dict[str, Any]:
    """Measure; mosquitto has to be installed."""
    counts = {
        "gateway": asyncio.run(_ours()),
        "ThingsBoard, SQLite": asyncio.run(_thingsboard_store()),
        "mosquitto bridge": asyncio.run(_bridge()),
    }
    results = {}
    for name, (accepted, lost, in_air) in counts.items():
        results[f"{name}, accepted"] = spread([accepted], "readings")
        results[f"{name}, accepted and lost"] = spread([lost], "readings")
        results[f"{name}, in the air"] = spread([in_air], "readings")
    return {"results": results, "ratios": {}}
