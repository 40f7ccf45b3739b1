"""What a user would pick instead, each in an environment of its own that is made when it is first wanted."""

import hashlib
import subprocess
import sys
from pathlib import Path

_LOCKS = Path(__file__).parent.parent / "requirements"
_HOME = Path(".bench-peers")
PROGRAMS = Path(__file__).parent / "peers"
"""What runs there; it imports nothing of this project."""


def interpreter(peer: str) -> Path:
    """Python of an environment with exactly what `requirements/peer-PEER.txt` locks.

    Raises `CalledProcessError` where it cannot be installed.
    """
    lock = _LOCKS / f"peer-{peer}.txt"
    home = (_HOME / f"{peer}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}").absolute()
    python = home / "bin" / "python"
    ready = home / "ready"
    if not ready.exists():
        sys.stderr.write(f"installing {peer} into {home}\n")
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([*install, "-r", str(lock)], check=True, stdout=sys.stderr)
        ready.touch()
    return python
