"""The receiver, telling when each reading was committed: `python -m bench._receiver run --config FILE`.

Writes `SEQUENCE MONOTONIC_S` lines to standard output, which is its log.
"""

import sys
import time
from collections.abc import Sequence

from gateway.cli import receiver
from gateway.receiver import worker
from gateway.receiver.intake import Intake, Taken
from gateway.receiver.plan import Message, ReadingColumns


class TimedIntake(Intake):
    """Looks at the clock after each commit."""

    __slots__ = ()

    def take(self, messages: Sequence[Message], *, now_ms: int) -> Taken:
        """As `Intake.take`."""
        taken = super().take(messages, now_ms=now_ms)
        committed_s = time.monotonic()
        for part in taken.plan.parts:
            if isinstance(part.content, ReadingColumns):
                sys.stdout.writelines(f"{sequence} {committed_s}\n" for sequence in part.content.sequence)
        sys.stdout.flush()
        return taken


if __name__ == "__main__":
    setattr(worker, "Intake", TimedIntake)  # noqa: B010 - a name of another module
    receiver.main()
