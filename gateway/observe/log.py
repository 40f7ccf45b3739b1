"""Structured logs: to journald where it listens, else on standard error as JSON or text (docs/logs.md).

Never a reading, a stream or a key: nobody hands one over. A wearable's Bluetooth address is shortened to its last octet
in whatever is told, by libraries too. Who repeats themselves, or says very much, is cut short.
"""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Final, Literal

from gateway.observe.journal import Journal
from gateway.observe.throttle import Throttle

Format = Literal["auto", "journal", "json", "text"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_ADDRESS: Final = re.compile(
    r"(?<![0-9A-Fa-f][:_-])(?<![0-9A-Fa-f]{2})[0-9A-Fa-f]{2}([:_-])(?:[0-9A-Fa-f]{2}\1){4}([0-9A-Fa-f]{2})(?![:_-]?[0-9A-Fa-f])"
)
"""Six octets; more of them are a fingerprint."""
_REPEATED_S: Final = 60.0
_WINDOW_S: Final = 60.0
_MOST_A_WINDOW: Final = 600


def discreet(text: str) -> str:
    """`text` with no Bluetooth address in it; the last octet tells which of a ward's wearables it is."""
    return _ADDRESS.sub(r"..:\2", text)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What the caller gave as `extra=`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value}" for key, value in _fields(record).items())
        head = f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%SZ')} {record.levelname.lower():7} {record.name}"
        error = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return discreet(f"{head}: {record.getMessage()}{fields}{error}")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname.lower(),
            "room": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return discreet(json.dumps(line, default=str))


class _ToJournal(logging.Handler):
    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        fields = {key: str(value) for key, value in _fields(record).items()}
        if record.exc_info:
            fields["error"] = logging.Formatter().formatException(record.exc_info)
        self._journal.send(
            record.levelno, discreet(record.getMessage()), record.name, {k: discreet(v) for k, v in fields.items()}
        )

    def close(self) -> None:
        self._journal.close()
        super().close()


class Moderation(logging.Filter):
    """Lets a line through that is not the last one again, and no more than 600 a minute.

    One that stands for others says for how many (`times`); what was kept back for its number, `kept_back`.
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic_s = monotonic_s
        self._repeated = Throttle(_REPEATED_S)
        self._window_s = 0.0
        self._said = 0
        self._kept_back = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be told."""
        now_s = self._monotonic_s()
        if now_s >= self._window_s:
            self._window_s, self._said = now_s + _WINDOW_S, 0
        subject = (record.name, record.levelname, record.getMessage(), repr(sorted(_fields(record).items())))
        times = self._repeated.admit(subject, now_s)
        if not times:
            return False
        if self._said >= _MOST_A_WINDOW:
            self._kept_back += times
            return False
        self._said += 1
        if times > 1:
            record.times = times
        if self._kept_back:
            record.kept_back, self._kept_back = self._kept_back, 0
        return True


def configure(level: Literal["debug", "info", "warning", "error"], style: Format) -> None:
    """Send everything from this process to where `style` says; libraries only from `warning` on.

    `auto` is the journal if standard error is connected to it, text on a terminal, JSON elsewhere.
    """
    handler = _handler(style)
    handler.addFilter(Moderation())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("gateway").setLevel(level.upper())


def _handler(style: Format) -> logging.Handler:
    if style == "auto":
        style = "journal" if _in_journal() else "text" if sys.stderr.isatty() else "json"
    if style == "journal" and (journal := Journal.connect()) is not None:
        return _ToJournal(journal)
    handler = logging.StreamHandler(sys.stderr)
    formatter = _Text() if style == "text" else _Json()
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    return handler


def _in_journal() -> bool:
    """Whether standard error is the stream that systemd connected to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    status = os.fstat(sys.stderr.fileno())
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
