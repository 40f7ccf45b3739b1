"""`python -m bench NAME [--json]`: run one benchmark; `all` of them, or those of the `page` docs/performance.md.

`--results DIRECTORY` keeps the JSON of each; `show --results DIRECTORY` prints it as the tables of that page.

The JSON: {"bench", "results": {NAME: {"median", "min", "max", "unit"}}, "ratios": {...}, "machine", "versions"}.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import pkgutil
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench
from bench._page import PAGE, page

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
    """Run what was named, or show what a run of all kept."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks of iomt-gateway")
    parser.add_argument("name", choices=[*names(), "all", "page", "show"], help="page: what docs/performance.md quotes")
    parser.add_argument("--json", action="store_true", help="one line of JSON per benchmark")
    parser.add_argument("--results", type=Path, help="of all and page: where each leaves NAME.json; show prints these")
    arguments = parser.parse_args()
    if arguments.name == "show":
        if arguments.results is None:
            parser.error("show needs --results DIRECTORY")
        print("\n".join(page(arguments.results)))
    elif arguments.name in {"all", "page"}:
        sys.exit(_each(PAGE if arguments.name == "page" else names(), arguments.results, as_json=arguments.json))
    else:
        versions = {name: importlib.metadata.version(name) for name in _VERSIONED}
        outcome = importlib.import_module(f"bench.{arguments.name}").run()
        result = {"bench": arguments.name, **outcome, "machine": machine(), "versions": versions}
        print(json.dumps(result) if arguments.json else table(result), flush=True)


def _each(chosen: Sequence[str], results: Path | None, *, as_json: bool) -> int:
    """Run each in a process of its own, so that none finds the memory of another; 1 if one failed, the rest go on."""
    failed = []
    for name in chosen:
        sys.stderr.write(f"{name} ...\n")
        done = subprocess.run(
            [sys.executable, "-m", "bench", name, "--json"], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode != 0:
            failed.append(name)
            continue
        if results is not None:
            results.mkdir(parents=True, exist_ok=True)
            (results / f"{name}.json").write_text(done.stdout)
        print(done.stdout.rstrip() if as_json else table(json.loads(done.stdout)), flush=True)
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


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
