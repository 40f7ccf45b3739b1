"""Acts of a service that was taken over, run under the shipped units and under parts of them."""

from dataclasses import dataclass
from pathlib import Path

from tests.nspawn.container import TREE, Container

_PYTHON = "/usr/lib/iomt-{package}/bin/python"
_ACTS = "/usr/libexec/acts.py"
_OF_THE_DAEMON = {
    *("Type", "Restart", "RestartSec", "TimeoutStartSec", "TimeoutStopSec", "TimeoutAbortSec", "WatchdogSec"),
    *("ExecStartPre", "ExecStart", "ExecStopPost", "ExecReload"),
    *("RuntimeDirectoryPreserve", "LoadCredentialEncrypted"),
}


@dataclass(frozen=True)
class Bite:
    """`act` is refused without `besides`, and done without `directives` too."""

    act: str
    directives: tuple[str, ...]
    besides: tuple[str, ...] = ()
    service: str = "gateway"

    def unit(self, *, without: tuple[str, ...]) -> str:
        """The shipped unit, but for what it runs and what it goes without."""
        head, _, service = (TREE / f"systemd/iomt-{self.service}.service").read_text().partition("[Service]\n")
        assert head
        left_out = {*_OF_THE_DAEMON, *without}
        lines = [
            line for line in service.partition("[Install]")[0].splitlines() if line.partition("=")[0] not in left_out
        ]
        run = f"{_PYTHON.format(package='gateway' if self.service == 'gateway' else 'receiver')} {_ACTS} {self.act}"
        return "\n".join(("[Service]", "Type=oneshot", f"ExecStart={run}", "RuntimeDirectoryPreserve=yes", *lines, ""))


def place_acts(box: Container) -> None:
    """Where units find them."""
    (box.root / _ACTS.lstrip("/")).write_text(Path(__file__).with_name("acts.py").read_text())
