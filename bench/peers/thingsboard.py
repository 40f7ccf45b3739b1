"""ThingsBoard's gateway with its SQLite store and a connector that hands over what standard input asks for.

`python thingsboard.py DIRECTORY PORT`, run by the Python of the peer's own environment. Each line `STREAMS COUNT FIRST`
gives the readings FIRST.. of COUNT numbers to STREAMS devices, each reading alone, as its Bluetooth connector does with
each notification. Answers `ready` once connected, and with `--count` `put N` when N readings in all are in its store.
With `--eager` it looks into its store every ms instead of every 50, as shipped: faster, and busier while idle.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import thingsboard_gateway
from thingsboard_gateway.connectors.connector import Connector
from thingsboard_gateway.gateway.entities.converted_data import ConvertedData
from thingsboard_gateway.gateway.entities.telemetry_entry import TelemetryEntry
from thingsboard_gateway.gateway.tb_gateway_service import TBGatewayService
from thingsboard_gateway.storage.sqlite.sqlite_event_storage import SQLiteEventStorage
from thingsboard_gateway.tb_utility.tb_loader import TBModuleLoader

_NO_LIMIT = "0:0,"
_LIMITS = (
    "rateLimits",
    "dpRateLimits",
    "messagesRateLimits",
    "deviceMessagesRateLimits",
    "deviceRateLimits",
    "deviceDpRateLimits",
)


class BenchConnector(Connector, threading.Thread):
    """Hands over readings."""

    def __init__(self, gateway, config, _connector_type):
        super().__init__(daemon=True)
        self.gateway, self.config = gateway, config

    def open(self):
        self.start()

    def close(self):
        pass

    def get_id(self):
        return "bench"

    get_name = get_type = get_id

    def get_config(self):
        return self.config

    def is_connected(self):
        return True

    def is_stopped(self):
        return False

    def on_attributes_update(self, content):
        pass

    def server_side_rpc_handler(self, content):
        pass

    def run(self):
        while not (self.gateway.tb_client and self.gateway.tb_client.is_connected()):
            time.sleep(0.01)
        say("ready")
        for line in sys.stdin:
            streams, count, first = map(int, line.split())
            for stream in range(streams):
                for number in range(first, first + count):
                    self.gateway.send_to_storage("bench", "bench", converted(stream, number))


def converted(stream, number):
    """One reading."""
    data = ConvertedData(device_name=f"device-{stream:03}", device_type="cgm")
    values = {"glucose": 100 + number % 40, "sequence": number, "session": "2026-11-01T08:00:00"}
    data.add_to_telemetry(TelemetryEntry(values, 1_790_000_000_000 + 300_000 * number))
    return data


def say(text):
    """Tell the benchmark."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def count_puts():
    """Let the store say how many readings it has accepted."""
    put = SQLiteEventStorage.put
    accepted = [0]

    def counted(self, event):
        done = put(self, event)
        if done and '"sequence"' in event:
            accepted[0] += 1
            say(f"put {accepted[0]}")
        return done

    SQLiteEventStorage.put = counted


def configure(root, port):
    """Write its configuration; where it lies."""
    shipped = Path(thingsboard_gateway.__file__).parent / "config"
    for each in ("logs", "config", "data"):
        (root / each).mkdir(exist_ok=True)
    config = json.loads((shipped / "tb_gateway.json").read_text())
    config["thingsboard"].update(
        host="127.0.0.1",
        port=port,
        remoteConfiguration=False,
        minPackSendDelayMS=1 if "--eager" in sys.argv else 50,
        maxPayloadSizeBytes=65000,
        security={"type": "accessToken", "accessToken": "bench"},
        statistics={"enable": False},
        **dict.fromkeys(_LIMITS, _NO_LIMIT),
    )
    config["storage"] = {"type": "sqlite", "data_file_path": f"{root / 'data'}/", "max_read_records_count": 1000}
    config["connectors"] = [
        {"name": "bench", "id": "bench", "type": "bench", "class": "BenchConnector", "configuration": "bench.json"}
    ]
    (root / "config" / "tb_gateway.json").write_text(json.dumps(config))
    (root / "config" / "bench.json").write_text(json.dumps({"name": "bench", "id": "bench"}))
    logs = json.loads((shipped / "logs.json").read_text())
    for each in logs["loggers"].values():
        each["level"] = "ERROR"
    (root / "config" / "logs.json").write_text(json.dumps(logs))
    return root / "config" / "tb_gateway.json"


def main():
    """Run until killed."""
    root = Path(sys.argv[1]).absolute()
    os.chdir(root)
    if "--count" in sys.argv:
        count_puts()
    TBModuleLoader.LOADED_CONNECTORS["benchBenchConnector"] = BenchConnector
    TBGatewayService(str(configure(root, int(sys.argv[2]))))


if __name__ == "__main__":
    main()
