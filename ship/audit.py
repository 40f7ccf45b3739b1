"""Whether what is shipped has known vulnerabilities: `python -m ship.audit [OSV]`, a snapshot of OSV's database.

Exit status: 0 none is known to the snapshot, 1 some are, 2 nothing was audited.
"""

import sys
from pathlib import Path

from gateway.errors import ConfigError
from gateway.observe.advisories import audit, pinned
from ship.packages import PACKAGES, ROOT


def main(snapshot: str) -> int:
    """Print what is known of each package's lock."""
    if not snapshot:
        print("not audited: no snapshot of OSV's database was given (make audit OSV=all.zip)")
        return 2
    status = 0
    for package in PACKAGES:
        lock = ROOT / "requirements" / f"{package.lock}.txt"
        packages = pinned(lock.read_text(encoding="utf-8"))
        try:
            audited = audit(packages, Path(snapshot))
        except ConfigError as error:
            print(f"not audited: {error}")
            return 2
        for each in audited.found:
            mended = f"mended in {each.fixed}" if each.fixed else "no mended version"
            print(f"{package.name}: {each.name} {each.version}: {each.advisory}: {each.summary} ({mended})")
        print(
            f"{package.name}: {len(audited.found)} known in {len(packages)} packages, by {audited.advisories} "
            f"advisories up to {audited.newest:%Y-%m-%d}; compiled-in libraries are as their packages' advisories say"
        )
        status = max(status, bool(audited.found))
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or [""]))
