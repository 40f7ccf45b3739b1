"""journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram an entry, fields with names."""

import logging
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

SOCKET: Final = Path("/run/systemd/journal/socket")
_MOST_BYTES: Final = 65_536
"""Of one field; a datagram takes more than that."""
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""syslog(3)'s, from which journalctl -p chooses."""


class Journal:
    """Made by `connect`. Fields are named IOMT_ and the caller's word; the room is IOMT_ROOM."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    @classmethod
    def connect(cls) -> Self | None:
        """None if no journal listens here."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            connection.connect(str(SOCKET))
        except OSError:
            connection.close()
            return None
        return cls(connection)

    def close(self) -> None:
        """Let go of the journal."""
        self._socket.close()

    def send(self, level: int, message: str, room: str, fields: Mapping[str, str]) -> None:
        """One entry. A journal that is gone or takes nothing more loses it, as any log would."""
        priority = next((number for least, number in _PRIORITIES if level >= least), 7)
        entry = {"MESSAGE": message, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "iomt", "IOMT_ROOM": room}
        entry |= {f"IOMT_{key.upper()}": value for key, value in fields.items()}
        with suppress(OSError):
            self._socket.send(b"".join(_field(key, value) for key, value in entry.items()))


def _field(key: str, value: str) -> bytes:
    data = value.encode("utf-8", "replace")[:_MOST_BYTES]
    return key.encode("ascii", "replace") + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
