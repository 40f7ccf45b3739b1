"""Renew the hash-locked requirement files, one per way of installing.

Usage: `make lock`. Files carry hashes of every published artefact and no index address.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LOCKS = {
    "base": (),
    "receiver": ("receiver",),
    "lab": ("receiver", "lab"),
    "all": ("receiver", "lab", "dev"),
    "fuzz": ("fuzz",),
    "tpm": ("tpm",),
}
PEERS = {"thingsboard": "thingsboard-gateway==3.8.5", "bluetooth-sig": "bluetooth-sig==0.6.0"}
"""What benchmarks compare with; nothing here imports them."""


def main() -> None:
    """Compile every lock; pass further arguments (such as --upgrade) on to the compiler."""
    for name, extras in LOCKS.items():
        compile_lock(name, "pyproject.toml", *(word for extra in extras for word in ("--extra", extra)))
    for name, requirement in PEERS.items():
        compile_lock(f"peer-{name}", "-", given=requirement)


def compile_lock(name: str, *arguments: str, given: str = "") -> None:
    """Write the lock `name`; `given` is the compiler's standard input."""
    command = [sys.executable, "-m", "uv", "pip", "compile", *arguments, "--quiet", "--generate-hashes"]
    command += ["--python-version", "3.11", "--no-header", "--no-emit-index-url", "--no-annotate"]
    command += ["--output-file", str(HERE / f"{name}.txt"), *sys.argv[1:]]
    subprocess.run(command, check=True, cwd=HERE.parent, input=given.encode())


if __name__ == "__main__":
    main()
