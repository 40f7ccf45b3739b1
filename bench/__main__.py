"""`python -m bench NAME [--json]`: run one benchmark, or all of them.

The JSON: {"bench", "results": {NAME: {"median", "min", "max", "unit"}}, "ratios": {...}, "machine", "versions"}.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import pkgutil
import platform
from pathlib import Path
from typing import Any

import bench

_VERSIONED = ("cryptography", "cbor2", "aiomqtt", "paho-mqtt", "bleak", "bumble")


def names() -> list[str]:
    """Every benchmark there is."""
    return sorted(each.name for each in pkgutil.iter_modules(bench.__path__) if not each.name.startswith("_"))


def machine() -> dict[str, Any]:
    """What this runs on, without naming the machine."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}


def main() -> None:
    """Run what was named."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks of iomt-gateway")
    parser.add_argument("name", choices=[*names(), "all"])
    parser.add_argument("--json", action="store_true", help="one line of JSON per benchmark")
    arguments = parser.parse_args()
    versions = {name: importlib.metadata.version(name) for name in _VERSIONED}
    for name in names() if arguments.name == "all" else [arguments.name]:
        outcome = importlib.import_module(f"bench.{name}").run()
        result = {"bench": name, **outcome, "machine": machine(), "versions": versions}
        print(json.dumps(result) if arguments.json else table(result), flush=True)


def table(result: dict[str, Any]) -> str:
    """One benchmark for a person."""
    lines = [f"{result['bench']}  ({result['machine']['cpu']}, {result['machine']['cores']} cores)"]
    for name, value in result["results"].items():
        spread = f"{value['min']:,.4g} to {value['max']:,.4g}"
        lines.append(f"  {name:44} {value['median']:>12,.4g} {value['unit']:<12} ({spread})")
    lines += [f"  {name:44} {value:>12,.3g} x" for name, value in result["ratios"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
