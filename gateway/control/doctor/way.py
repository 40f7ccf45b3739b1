"""Judges the way to a server: name, route, connection, and TLS, step by step. Sans-IO."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.control.doctor.findings import Finding, fail, ok


class Step(StrEnum):
    """In this order; after one that fails there is none."""

    RESOLVE = "resolve"
    ROUTE = "route"
    CONNECT = "connect"
    HANDSHAKE = "handshake"
    CHAIN = "chain"
    NAME = "name"
    CLIENT = "client certificate"


@dataclass(frozen=True, slots=True)
class Tried:
    """One step of the way."""

    step: Step
    evidence: str
    failed: bool = False


_FIX: Final = {
    Step.RESOLVE: "is the name right? does DNS answer: resolvectl query NAME, cat /etc/resolv.conf",
    Step.ROUTE: "ip route; is the network up, has it a gateway?",
    Step.CONNECT: "does the server run, and does a firewall between let this box through?",
    Step.HANDSHAKE: "is that port the right one, and does TLS 1.3 speak there?",
    Step.CHAIN: "is it this site's server, and has it not ended (iomt-receiver ca list DIR)? is the clock right?",
    Step.NAME: "name it in the configuration as its certificate does, or give it a certificate for this name",
    Step.CLIENT: "is it revoked or ended (iomt-receiver ca list DIR)? enrol anew: docs/identity.md",
}


def judge(server: str, way: Iterable[Tried]) -> Iterator[Finding]:
    """One finding a step."""
    for each in way:
        check = f"{server} {each.step}"
        yield fail(check, each.evidence, _FIX[each.step]) if each.failed else ok(check, each.evidence)
