"""The audit: clean where everything is as signed and told, and a finding for whatever is not."""

from contextlib import AbstractContextManager
from hashlib import sha256
from typing import Any

import pytest

from gateway.envelope.layout import urgent_root
from gateway.envelope.seal import self_stream
from gateway.model import Batch, Event, Link
from gateway.receiver.archive import Archive
from gateway.receiver.audit import audit
from gateway.receiver.judging import Registry, judging
from gateway.receiver.plan import Message
from gateway.receiver.postgres.reading import reading as postgres_reading
from gateway.receiver.sqlite import reading as sqlite_reading
from tests.receiver.conftest import NOW_MS, Box, Cloud
from tests.receiver.test_ingest import link

A, B = b"\x0a" * 16, b"\x0b" * 16


def reading(cloud: Cloud) -> AbstractContextManager[Archive]:
    return postgres_reading(cloud.postgres.worker) if cloud.postgres else sqlite_reading(cloud.directory)


def audited(archive: Archive, registry: Registry, stream: bytes | None = None, jobs: int = 1) -> dict[str, Any]:
    with judging(registry, jobs) as judge:
        return audit(archive, judge, stream=stream, on_progress=lambda *_: None)


def report(cloud: Cloud, stream: bytes | None = None) -> dict[str, Any]:
    with reading(cloud) as archive:
        return audited(archive, cloud.intake.registry, stream)


def gw1(cloud: Cloud) -> dict[str, Any]:
    return dict(report(cloud)["gateways"]["gw-1"])


def fill(gw: Box, cloud: Cloud, count: int = 6) -> list[Message]:
    messages = [gw.message(Batch(A, gw.records(2)), Batch(B, gw.records(1))) for _ in range(count)]
    cloud.take(*messages)
    return messages


def test_an_untouched_store_is_clean(gw: Box, other: Box, cloud: Cloud) -> None:
    fill(gw, cloud)
    gw.restart(gw.head)
    fill(gw, cloud)
    cloud.take(other.tick())
    told = report(cloud)
    assert (told["verdict"], told["unexplained"], told["bundles"], told["verified"]) == ("clean", 0, 13, 13)
    gateway = told["gateways"]["gw-1"]
    assert (gateway["chains"], gateway["missing"], gateway["findings"], gateway["forks"]) == (2, [], [], [])
    assert gateway["streams"][A.hex()] == {
        "first_ms": NOW_MS,
        "last_ms": NOW_MS + 34,
        "records": 24,
        "readings": 24,
        "missing": 0,
        "gaps": [],
    }


def test_one_stream_is_audited_with_the_chains_that_it_is_in(gw: Box, other: Box, cloud: Cloud) -> None:
    cloud.take(gw.message(Batch(A, gw.records(2))), gw.message(Batch(B, gw.records(1))), other.tick(B))
    gw.restart(gw.head)
    cloud.take(gw.message(Batch(B, gw.records(1))))
    told = report(cloud, A)
    assert told["verdict"] == "clean"
    assert list(told["gateways"]) == ["gw-1"]
    assert (told["gateways"]["gw-1"]["chains"], list(told["gateways"]["gw-1"]["streams"])) == (1, [A.hex()])


def test_bundles_that_never_came_are_unexplained(gw: Box, cloud: Cloud) -> None:
    messages = [gw.message(Batch(A, gw.records(2))) for _ in range(6)]
    cloud.take(*messages[:2], *messages[4:])
    told, chain = report(cloud), link(messages[0]).chain.hex()
    assert (told["verdict"], told["unexplained"]) == ("unexplained", 2)
    gateway = told["gateways"]["gw-1"]
    assert gateway["missing"] == [{"chain": chain, "first": 2, "last": 3, "cause": "unexplained"}]
    entry = gateway["streams"][A.hex()]
    assert entry["gaps"] == [{"chain": chain, "first": 4, "last": 7, "cause": "unexplained"}]
    assert (entry["records"], entry["missing"]) == (8, 4)


def test_what_its_gateway_signed_that_it_had_to_forget_is_explained(gw: Box, cloud: Cloud) -> None:
    messages = [gw.message(Batch(A, gw.records(2))) for _ in range(6)]
    lost = link(messages[3])
    eviction = Event(NOW_MS, "eviction", (lost.chain, 2, 3, lost.hash, "capacity", A, 4, NOW_MS, NOW_MS))
    cloud.take(*messages[:2], *messages[4:], gw.message(Batch(self_stream("gw-1"), (eviction,))))
    told = report(cloud)
    assert told["verdict"] == "clean"
    gateway = told["gateways"]["gw-1"]
    assert gateway["missing"] == [{"chain": lost.chain.hex(), "first": 2, "last": 3, "cause": "capacity"}]
    entry = gateway["streams"][A.hex()]
    assert [(each["first"], each["last"], each["cause"]) for each in entry["gaps"]] == [(4, 7, "capacity")]


def test_an_eviction_that_covers_half_of_a_hole_explains_that_half(gw: Box, cloud: Cloud) -> None:
    messages = [gw.message(Batch(A, gw.records(2))) for _ in range(8)]
    lost = link(messages[3])
    eviction = Event(NOW_MS, "eviction", (lost.chain, 3, 3, lost.hash, "capacity"))
    cloud.take(*messages[:2], *messages[6:], gw.message(Batch(self_stream("gw-1"), (eviction,))))
    missing = [(each["first"], each["last"], each["cause"]) for each in gw1(cloud)["missing"]]
    assert missing == [(2, 2, "unexplained"), (3, 3, "capacity"), (4, 5, "unexplained")]


def test_records_that_were_never_durable_are_a_gap_with_its_cause(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.message(Batch(A, gw.records(2))), gw.message(gw.gap(A, 3)), gw.message(Batch(A, gw.records(2))))
    told = report(cloud)
    assert told["verdict"] == "clean"
    entry = told["gateways"]["gw-1"]["streams"][A.hex()]
    assert [(each["first"], each["last"], each["cause"]) for each in entry["gaps"]] == [(2, 4, "refused")]
    assert (entry["records"], entry["missing"]) == (4, 0)


def test_the_end_of_a_chain_that_its_successor_names_is_missed(gw: Box, cloud: Cloud) -> None:
    messages = [gw.message(Batch(A, gw.records(2))) for _ in range(4)]
    gw.restart(gw.head)
    cloud.take(*messages[:2], gw.message(Batch(A, gw.records(2))))
    missing = [(each["first"], each["last"], each["cause"]) for each in gw1(cloud)["missing"]]
    assert missing == [(2, 3, "unexplained")]


def test_a_chain_of_which_nothing_came_is_missed_if_the_next_one_names_it(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.tick())
    gw.restart(gw.head)
    for _ in range(3):
        lost = link(gw.tick())
    gw.restart(gw.head)
    cloud.take(gw.tick())
    told = gw1(cloud)
    assert told["missing"] == [{"chain": lost.chain.hex(), "first": 0, "last": 2, "cause": "unexplained"}]


@pytest.mark.parametrize("code", ["heartbeat", "shutdown"])
def test_urgent_bundles_that_a_heartbeat_names_are_missed(gw: Box, cloud: Cloud, code: str) -> None:
    alarms = Box("gw-1")
    alarms.restart(Link(urgent_root("gw-1"), 0, bytes(32)))
    sent = [alarms.tick() for _ in range(3)]
    names = Event(NOW_MS, code, (link(sent[2]).chain, 2, link(sent[2]).hash))
    cloud.take(sent[0], gw.message(Batch(self_stream("gw-1"), (names,))))
    missing = [(each["first"], each["last"], each["cause"]) for each in gw1(cloud)["missing"]]
    assert missing == [(1, 2, "unexplained")]
    cloud.take(*sent[1:])
    assert report(cloud)["verdict"] == "clean"


def test_a_fork_is_unexplained(gw: Box, cloud: Cloud) -> None:
    head = (fill(gw, cloud), gw.head)[1]
    for _ in range(2):
        gw.restart(head)
        cloud.take(gw.tick())
    told = report(cloud)
    assert told["verdict"] == "unexplained"
    assert [each["cause"] for each in told["gateways"]["gw-1"]["forks"]] == ["two-successors"]


def alter(cloud: Cloud, no: int, column: str, value: bytes) -> None:
    """Change a stored bundle behind the receiver's back."""
    table = {"sign1": "archive", "hash": "bundle_links"}[column] if cloud.postgres else "bundles"
    cloud.rows(f"UPDATE {table} SET {column} = ? WHERE no = ?", value, no)  # noqa: S608 - our own names


def causes(cloud: Cloud) -> list[tuple[int, str]]:
    told = report(cloud)
    assert told["verdict"] == "unexplained"
    return [(each["no"], each["cause"]) for each in told["gateways"]["gw-1"]["findings"]]


def test_a_bundle_that_is_garbled_or_in_anothers_place_is_found(gw: Box, cloud: Cloud) -> None:
    fill(gw, cloud)
    [(second,)] = cloud.rows("SELECT sign1 FROM bundles WHERE no = 2")
    alter(cloud, 3, "sign1", second)
    alter(cloud, 1, "sign1", b"\xd2\x84\x43")
    alter(cloud, 5, "hash", bytes(32))
    assert causes(cloud) == [(1, "malformed"), (3, "malformed"), (5, "malformed")]


def test_a_changed_signature_is_found(gw: Box, cloud: Cloud) -> None:
    fill(gw, cloud)
    [(sign1,)] = cloud.rows("SELECT sign1 FROM bundles WHERE no = 3")
    forged = bytes(sign1[:-1]) + bytes([sign1[-1] ^ 1])
    alter(cloud, 3, "sign1", forged)
    alter(cloud, 3, "hash", sha256(forged).digest())
    assert causes(cloud) == [(3, "signature"), (4, "broken-link")]


@pytest.mark.parametrize("statement", ["UPDATE record_runs SET last = last + 1", "DELETE FROM record_runs"])
def test_an_index_of_records_that_says_something_else_is_found(gw: Box, cloud: Cloud, statement: str) -> None:
    fill(gw, cloud)
    cloud.rows(statement)
    assert causes(cloud) == [(5, "records")]


def test_an_epoch_part_that_nobody_signed_is_found(gw: Box, cloud: Cloud) -> None:
    fill(gw, cloud)
    cloud.rows("UPDATE epoch_parts SET part = ? WHERE epoch = 0", b"\x00")
    assert causes(cloud) == [(5, "epoch-hash")]


def test_a_signer_that_is_not_registered_any_more_is_found(gw: Box, cloud: Cloud) -> None:
    fill(gw, cloud, 2)
    with reading(cloud) as archive:
        told = audited(archive, {})
    assert [each["cause"] for each in told["gateways"]["gw-1"]["findings"]] == ["signer", "signer"]


def test_the_chain_of_a_forgotten_patient_still_verifies(gw: Box, cloud: Cloud) -> None:
    fill(gw, cloud)
    cloud.rows("DELETE FROM epoch_parts WHERE stream_id = (SELECT id FROM streams WHERE stream = ?)", A)
    told = report(cloud)
    assert told["verdict"] == "clean"
    assert (told["verified"], told["gateways"]["gw-1"]["erased"]) == (6, 1)


def test_progress_counts_every_bundle(gw: Box, cloud: Cloud) -> None:
    fill(gw, cloud, 3)
    seen: list[tuple[int, int]] = []
    with reading(cloud) as archive, judging(cloud.intake.registry, 1) as judge:
        audit(archive, judge, stream=None, on_progress=lambda *each: seen.append(each))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def acts(gw: Box, *heads: tuple[str, int]) -> Message:
    """A bundle that tells the audit log's heads, each named by a letter, and number."""
    events = tuple(Event(NOW_MS, "audit-head", (sha256(name.encode()).digest(), no)) for name, no in heads)
    return gw.message(Batch(self_stream("gw-1"), events))


def test_an_audit_log_that_grows_is_clean_and_its_head_is_told(gw: Box, cloud: Cloud) -> None:
    cloud.take(acts(gw, ("a", 2), ("b", 4)))
    gw.restart(gw.head)
    cloud.take(acts(gw, ("b", 4), ("c", 6)))
    assert report(cloud)["verdict"] == "clean"
    assert gw1(cloud)["audit_log"] == {"entries": 6, "head": sha256(b"c").hexdigest(), "changes": []}


@pytest.mark.parametrize(
    ("later", "cause"), [(("x", 4), "rewritten"), (("a", 2), "shortened"), (("x", 3), "shortened")]
)
@pytest.mark.parametrize("restarted", [False, True])
def test_an_audit_log_that_is_not_what_it_was_is_unexplained(
    gw: Box, cloud: Cloud, later: tuple[str, int], cause: str, *, restarted: bool
) -> None:
    cloud.take(acts(gw, ("a", 2), ("b", 4)))
    if restarted:
        gw.restart(gw.head)
    cloud.take(acts(gw, later))
    told = gw1(cloud)["audit_log"]["changes"]
    assert [(each["no"], each["cause"]) for each in told] == [(later[1], cause)]
    assert report(cloud)["unexplained"] == 1


def test_a_restored_gateway_begins_another_audit_log_and_may_not_rewrite_that(gw: Box, cloud: Cloud) -> None:
    cloud.take(acts(gw, ("a", 2), ("b", 4)))
    gw.restart(gw.head)
    restored = Event(NOW_MS, "security", ("restored", "from a backup"))
    cloud.take(gw.message(Batch(self_stream("gw-1"), (restored,))), acts(gw, ("x", 2)))
    assert report(cloud)["verdict"] == "clean"
    gw.restart(gw.head)
    cloud.take(acts(gw, ("y", 2)))
    assert [each["cause"] for each in gw1(cloud)["audit_log"]["changes"]] == ["rewritten"]


def test_a_gateway_with_a_history_of_its_own_has_a_log_of_its_own(gw: Box, cloud: Cloud) -> None:
    cloud.take(acts(gw, ("a", 2), ("b", 4)))
    gw.restart(None)
    cloud.take(acts(gw, ("x", 2)))
    assert gw1(cloud)["audit_log"]["changes"] == []


def test_several_processes_tell_the_same(gw: Box, other: Box, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.receiver.judging._HERE", 3)
    monkeypatch.setattr("gateway.receiver.judging._BATCH", 2)
    messages = [gw.message(Batch(A, gw.records(2)), Batch(B, gw.records(1))) for _ in range(20)]
    gw.restart(gw.head)
    cloud.take(*messages[:5], *messages[8:], gw.tick(), *(other.tick() for _ in range(30)))
    [(sign1,)] = cloud.rows("SELECT sign1 FROM bundles JOIN chains ON id = chain_id WHERE gateway = 'gw-2' AND no = 7")
    forged = bytes(sign1[:-1]) + bytes([sign1[-1] ^ 1])
    alter(cloud, 7, "sign1", forged)
    with reading(cloud) as archive:
        alone, together = (audited(archive, cloud.intake.registry, jobs=jobs) for jobs in (1, 2))
    assert alone == together
    assert alone["gateways"]["gw-1"]["missing"]
    assert alone["gateways"]["gw-2"]["findings"]
