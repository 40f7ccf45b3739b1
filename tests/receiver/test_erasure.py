"""Forgetting a stream: nothing of it can be read again, nothing of it comes back, and the archive still verifies."""

import json
from contextlib import closing

import pytest

from gateway.envelope.keys import VerifyKey
from gateway.envelope.open import parse, parse_signed
from gateway.errors import ConfigError, SignatureError, StoreError
from gateway.model import Batch, Extra, Record
from gateway.receiver import desk, erasure
from gateway.receiver.erasure import Elsewhere
from gateway.receiver.postgres.store import PostgresStore
from tests.receiver.conftest import NOW_MS, Box, Cloud, signer

A, B = b"\x0a" * 16, b"\x0b" * 16
DAY_MS = 86_400_000
TABLES = ("readings", "epoch_parts", "epoch_secrets", "record_runs", "gaps", "patients", "sources")


def forget(cloud: Cloud, stream: bytes = A, *, role: str = "eraser") -> str:
    how = (stream.hex(), signer("receiver"), Elsewhere(7, 30))
    if cloud.postgres is None:
        return erasure.forget(cloud.store, *how, now_ms=NOW_MS)
    with closing(PostgresStore.open(cloud.postgres.of(role), incarnation=1)) as store:
        return erasure.forget(store, *how, now_ms=NOW_MS)


def both(gw: Box) -> tuple[Batch, Batch]:
    return Batch(A, gw.records(2)), Batch(B, gw.records(2))


def counts(cloud: Cloud, stream: bytes) -> list[int]:
    selects = {
        "readings": "SELECT count(*) FROM readings WHERE stream = ?",
        "gaps": "SELECT count(*) FROM gaps WHERE stream = ?",
    }
    joined = "SELECT count(*) FROM {} JOIN streams ON streams.id = stream_id WHERE stream = ?"
    return [int(cloud.rows(selects.get(table, joined.format(table)), stream)[0][0]) for table in TABLES]


def test_all_of_a_stream_is_destroyed_and_nothing_of_another(gw: Box, cloud: Cloud) -> None:
    stored = Record("d", 1, 5, 0, NOW_MS, extras=((Extra.SEQUENCE, 1), (Extra.SESSION, "s")))
    cloud.take(gw.message(*both(gw)), gw.message(Batch(A, (stored,)), gw.gap(B, 2)), gw.message(gw.gap(A, 3)))
    desk.assign(cloud.desk, A.hex(), "Patient/4711", now_ms=NOW_MS)
    before = counts(cloud, B)
    assert all(counts(cloud, A))
    forget(cloud)
    assert counts(cloud, A) == [0] * len(TABLES)
    assert counts(cloud, B) == before
    assert list(desk.readings(cloud.desk, since_ms=0)) == []


def test_the_archive_still_verifies_and_opens_for_nobody(gw: Box, cloud: Cloud) -> None:
    messages = [gw.message(*both(gw)) for _ in range(3)]
    cloud.take(*messages)
    forget(cloud)
    key = VerifyKey(gw.signer.alg, gw.signer.public)
    prev = bytes(32)
    for (sign1,) in cloud.rows("SELECT sign1 FROM bundles ORDER BY no"):
        bundle = parse_signed(sign1)
        bundle.verify_signature(key)
        assert bundle.prev == prev
        prev = bundle.hash
    kept = {data for (data,) in cloud.rows("SELECT part FROM epoch_parts")}
    sent = {part.data: part.stream for message in messages for part in parse(message.payload).epochs}
    assert kept == {data for data, stream in sent.items() if stream == B}


def test_a_redelivery_is_receipted_and_brings_nothing_back(gw: Box, cloud: Cloud) -> None:
    messages = [gw.message(*both(gw)) for _ in range(2)]
    cloud.take(*messages)
    forget(cloud)
    again = cloud.take(*messages)
    assert again.plan.redelivered == 2
    assert cloud.receipts(again)["gw-1"].ranges[0].last == 1
    assert counts(cloud, A) == [0] * len(TABLES)


def test_what_arrives_late_is_discarded_counted_and_receipted_and_its_neighbour_is_kept(gw: Box, cloud: Cloud) -> None:
    first, late, later = (gw.message(*both(gw)) for _ in range(3))
    cloud.take(first)
    forget(cloud)
    taken = cloud.take(late)
    assert (taken.plan.discarded, len(taken.plan.bundles)) == (2, 1)
    assert cloud.receipts(taken)["gw-1"].ranges[0].last == 1
    gw.restart(gw.head)
    fresh = cloud.take(later, gw.message(*both(gw)))  # a new chain opens a new epoch of the closed stream
    assert (fresh.plan.discarded, len(fresh.plan.bundles)) == (4, 2)
    assert counts(cloud, A) == [0] * len(TABLES)
    assert cloud.rows("SELECT count(*) FROM readings") == [(8,)]
    assert cloud.rows("SELECT count(*) FROM erased_epochs") == [(2,)]
    assert cloud.take(gw.message(*both(gw))).plan.discarded == 2


def test_a_part_that_arrives_before_the_epoch_of_a_forgotten_stream_does_not_wait_for_ever(
    gw: Box, cloud: Cloud
) -> None:
    cloud.take(gw.message(Batch(A, gw.records(1))))
    forget(cloud)
    gw.restart(gw.head)
    opener, needs = gw.message(*both(gw)), gw.message(*both(gw))
    assert cloud.take(needs).committed.parked == 1
    assert cloud.settle(opener)[-1].committed.parked == 0
    assert cloud.rows("SELECT count(*) FROM readings") == [(4,)]


def test_the_certificate_says_what_was_destroyed_and_what_others_hold(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.message(*both(gw)))
    document = forget(cloud)
    key = VerifyKey(signer("receiver").alg, signer("receiver").public)
    said = erasure.verify(document, key)
    assert (said["gateway"], said["stream"], said["time_ms"]) == ("gw-1", A.hex(), NOW_MS)
    assert {what: said["destroyed"][what] for what in ("readings", "epochs", "epoch secrets")} == {
        "readings": 2,
        "epochs": 1,
        "epoch secrets": 1,
    }
    until = {each["where"]: each["until_ms"] for each in said["held_elsewhere"]}
    assert (until["broker"], until["backups of the store"]) == (NOW_MS + 7 * DAY_MS, NOW_MS + 30 * DAY_MS)
    with pytest.raises(SignatureError):
        erasure.verify(document.replace(A.hex(), B.hex()), key)
    with pytest.raises(SignatureError):
        erasure.verify("{}", key)


def test_a_stream_may_be_forgotten_twice_and_every_certificate_is_kept(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.message(*both(gw)))
    first, second = forget(cloud), forget(cloud)
    assert json.loads(second)["certificate"]["destroyed"]["readings"] == 0
    assert cloud.rows("SELECT document FROM erasure_certificates ORDER BY id") == [(first,), (second,)]


def test_a_forgotten_stream_is_assigned_to_nobody_any_more(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.message(*both(gw)))
    forget(cloud)
    with pytest.raises(ConfigError, match="was forgotten"):
        desk.assign(cloud.desk, A.hex(), "Patient/1", now_ms=NOW_MS)


def test_what_is_no_stream_here_is_refused(cloud: Cloud) -> None:
    with pytest.raises(ConfigError, match="is not here"):
        forget(cloud)


def test_only_who_may_erase_erases(gw: Box, cloud: Cloud) -> None:
    if cloud.postgres is None:
        return  # SQLite knows no roles
    cloud.take(gw.message(*both(gw)))
    for role in ("worker", "desk"):
        with pytest.raises(StoreError, match="permission denied"):
            forget(cloud, role=role)
    assert all(counts(cloud, A)[:4])
