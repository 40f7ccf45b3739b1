"""The guest's tests run in the guest only: `make test-bluez`."""

from pathlib import Path

if not Path("/opt/app/selection").exists():
    collect_ignore = ["guest"]
