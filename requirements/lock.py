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
}


def main() -> None:
    """Compile every lock from pyproject.toml; pass further arguments (such as --upgrade) on to the compiler."""
    for name, extras in LOCKS.items():
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--quiet", "--generate-hashes"]
        command += ["--python-version", "3.11", "--no-header", "--no-emit-index-url", "--no-annotate"]
        command += ["--output-file", str(HERE / f"{name}.txt")]
        for extra in extras:
            command += ["--extra", extra]
        subprocess.run([*command, *sys.argv[1:]], check=True, cwd=HERE.parent)


if __name__ == "__main__":
    main()
