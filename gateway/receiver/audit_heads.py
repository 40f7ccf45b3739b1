"""Does a gateway's audit log go on from what it was? What its `audit-head` events say, held against each other.

Each tells the newest entry's number and hash, and the hash covers all before it. So an entry that has another hash than
it had was rewritten, and a log with fewer entries than before was shortened. Sans-IO.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The newest entry of a gateway's audit log, as an event told it."""

    no: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """A head that contradicts an earlier one."""

    chain: bytes
    head: AuditHead
    cause: str
    """`rewritten` or `shortened`."""


def changes(
    heads: Mapping[bytes, Iterable[AuditHead]], before: Mapping[bytes, bytes | None], restored: int
) -> list[Change]:
    """Where the log was another than it had said; `heads` are those of each chain, in the order in which it told them.

    `before` names each chain's predecessor: chains that continue each other are of one log. `restored`: so often the
    gateway has said that it was made anew from a backup; then it begins another log (`docs/backup.md`).
    """
    logs: dict[bytes, dict[int, bytes]] = {}
    found: list[Change] = []
    for chain in sorted(heads, key=lambda each: len(_line(each, before))):
        log = logs.setdefault(_line(chain, before)[-1], {})
        for place, head in enumerate(heads[chain]):
            cause = _contradiction(log, head)
            if cause and place == 0 and restored:
                restored -= 1
                log.clear()
            elif cause:
                found.append(Change(chain, head, cause))
            log[head.no] = head.hash
    return found


def _contradiction(log: Mapping[int, bytes], head: AuditHead) -> str | None:
    if log.get(head.no, head.hash) != head.hash:
        return "rewritten"
    return "shortened" if head.no < max(log, default=0) else None


def _line(chain: bytes, before: Mapping[bytes, bytes | None]) -> list[bytes]:
    """The chain, the one before it, and so on to the first that is here."""
    line = [chain]
    while (last := before.get(line[-1])) is not None and last in before and last not in line:
        line.append(last)
    return line
