"""The receiver's rules: what is stored, parked, quarantined, and what each gateway is told."""

import random
from contextlib import closing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.envelope import cbor, cose, layout
from gateway.envelope.keys import RecipientKey
from gateway.envelope.open import parse
from gateway.envelope.seal import ChainWriter, self_stream
from gateway.model import Batch, Event, Extra, Record, Refusal
from gateway.outbox.outbox import Outbox
from gateway.receiver import ingest
from gateway.receiver.plan import Message
from tests.receiver.conftest import NOW_MS, RECIPIENT, X25519, Box, Cloud, Entropy, signer
from tests.receiver.facts import A, B, bound, causes, count, covers, forks, link, resealed


def test_a_bundle_becomes_rows_and_a_receipt(gw: Box, cloud: Cloud) -> None:
    record = Record(
        "C0:00:00:00:00:01",
        7,
        104,
        -5,
        NOW_MS,
        extras=((Extra.UNCERTAINTY_MS, 20), (Extra.SEQUENCE, 17), (Extra.SESSION, "s1"), (Extra.BACKFILLED, 1)),
    )
    message = gw.message(Batch(A, (record, *gw.records(1))), gw.event("heartbeat"), gw.gap(B, 3))
    taken = cloud.take(message)
    chain = link(message).chain
    assert cloud.rows("SELECT * FROM readings WHERE seq = 0") == [
        ("gw-1", A, chain, 0, record.device, 7, 104, -5, NOW_MS, 0, 17, "s1", 1, '{"2":20}', NOW_MS)
    ]
    assert cloud.rows("SELECT seq, mantissa, sequence, extras FROM readings WHERE seq = 1") == [(1, 0, None, None)]
    assert cloud.rows("SELECT seq, code, details FROM events") == [(0, "heartbeat", '[1,"two","03",null]')]
    assert cloud.rows("SELECT stream, first, count, cause FROM gaps") == [(B, 0, 3, "refused")]
    receipt = cloud.receipts(taken)["gw-1"]
    assert receipt.ranges == (covers(message),)
    assert (receipt.refused, receipt.time_ms, receipt.store) == ((), NOW_MS, cloud.store.id)


def test_the_archive_keeps_what_was_signed_apart_from_what_can_be_erased(gw: Box, cloud: Cloud) -> None:
    message = gw.tick(A)
    cloud.take(message)
    bundle = parse(message.payload)
    assert cloud.rows("SELECT sign1 FROM bundles") == [(bundle.sign1,)]
    assert cloud.rows("SELECT part FROM epoch_parts") == [(bundle.epochs[0].data,)]
    assert count(cloud, "epoch_secrets") == 1


def test_a_redelivery_is_counted_and_receipted_again(gw: Box, cloud: Cloud) -> None:
    message = gw.tick()
    first = cloud.take(message)
    again = cloud.take(message, message)
    assert (count(cloud), again.plan.redelivered) == (1, 2)
    receipts = [cloud.receipts(each)["gw-1"] for each in (first, again)]
    assert receipts[0].ranges == receipts[1].ranges == (covers(message),)
    assert receipts[0].counter < receipts[1].counter


def test_a_receipt_covers_the_contiguous_run_around_what_it_answers(gw: Box, cloud: Cloud) -> None:
    ticks = [gw.tick() for _ in range(6)]
    assert cloud.receipts(cloud.take(ticks[0], ticks[1]))["gw-1"].ranges == (covers(*ticks[:2]),)
    assert cloud.receipts(cloud.take(ticks[3], ticks[5]))["gw-1"].ranges == (covers(ticks[3]), covers(ticks[5]))
    assert cloud.receipts(cloud.take(ticks[2]))["gw-1"].ranges[-1] == covers(*ticks[:4])
    assert cloud.receipts(cloud.take(ticks[4]))["gw-1"].ranges[-1] == covers(*ticks)


def test_a_redelivery_is_also_receipted_up_to_itself_for_a_gateway_that_forgot_what_followed(
    gw: Box, cloud: Cloud
) -> None:
    ticks = [gw.tick() for _ in range(6)]
    cloud.take(*ticks)
    again = cloud.receipts(cloud.take(ticks[2], ticks[1]))["gw-1"]
    assert again.ranges == (covers(*ticks[:3]), covers(*ticks))


async def test_a_gateway_restored_to_an_earlier_state_gets_its_bundles_receipted(
    gw: Box, cloud: Cloud, tmp_path: Path
) -> None:
    sealed = [gw.seal(Batch(A, gw.records(1))) for _ in range(4)]
    messages = [Message("gw-1", bundle.data) for bundle in sealed]
    cloud.take(*messages)
    with closing(
        Outbox.open(tmp_path / "outbox", gateway="gw-1", segment_bytes=1 << 20, capacity_bytes=1 << 24)
    ) as restored:
        for bundle in sealed[:2]:
            restored.append(bundle)
        await restored.sync()
        applied = restored.apply(cloud.receipts(cloud.take(*messages[:2]))["gw-1"])
        assert (applied.bundles, restored.unreceipted(-1, 10)) == (2, [])


def test_a_receipt_names_at_most_256_ranges_oldest_first(gw: Box, cloud: Cloud) -> None:
    ticks = [gw.tick() for _ in range(2 * 258)]
    receipt = cloud.receipts(cloud.take(ticks[0], *ticks[2::2]))["gw-1"]
    assert receipt.ranges == tuple(covers(tick) for tick in ticks[: 2 * ingest.MAX_RANGES : 2])


def test_each_gateway_gets_its_own_receipt(gw: Box, other: Box, cloud: Cloud) -> None:
    messages = [gw.tick(A), other.tick(A), gw.tick(A)]
    receipts = cloud.receipts(cloud.take(*messages))
    assert receipts["gw-1"].ranges == (covers(messages[0], messages[2]),)
    assert receipts["gw-2"].ranges == (covers(messages[1]),)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_any_order_and_repetition_of_two_chains_ends_in_the_same_store(data: st.DataObject) -> None:
    box = Box("gw-1")
    messages = [box.message(Batch(stream, box.records(2)), box.event("x")) for stream in (A, B, A)]
    box.restart(box.head)
    messages += [box.message(Batch(A, box.records(1)), box.gap(B, 2)) for _ in range(3)]
    arrivals = data.draw(st.permutations(messages + data.draw(st.lists(st.sampled_from(messages), max_size=4))))
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=len(arrivals)))
    source = iter(arrivals)
    with TemporaryDirectory() as directory:
        shuffled, straight = (Cloud(Path(directory, name), {"gw-1": box}) for name in ("shuffled", "straight"))
        for size in sizes:
            shuffled.settle(*islice(source, size))
        straight.take(*messages)
        assert shuffled.everything() == straight.everything()
        assert (count(shuffled, "parked"), causes(shuffled), forks(shuffled)) == (0, [], [])
        final = [cloud.receipts(cloud.take(*messages))["gw-1"].ranges for cloud in (shuffled, straight)]
        assert final == [(covers(messages[0], messages[2]), covers(messages[3], messages[5]))] * 2
        for cloud in (shuffled, straight):
            cloud.store.close()


@pytest.mark.parametrize("explained_first", [False, True])
def test_bundles_that_a_gateway_had_to_forget_count_as_covered(gw: Box, cloud: Cloud, explained_first: bool) -> None:  # noqa: FBT001 - a parameter of the test
    ticks = [gw.tick() for _ in range(5)]
    lost = link(ticks[3])
    gw.restart(gw.head)
    eviction = Event(NOW_MS, "eviction", (lost.chain, 1, lost.no, lost.hash, "capacity"))
    explanation = gw.message(Batch(self_stream("gw-1"), (eviction,)))
    for message in (explanation, ticks[0]) if explained_first else (ticks[0], explanation):
        cloud.take(message)
    assert cloud.receipts(cloud.take(ticks[4]))["gw-1"].ranges == (covers(ticks[0], ticks[4]),)
    assert cloud.store.summary()["gateways"]["gw-1"]["missing_bundles"] == 0
    assert forks(cloud) == []


def test_an_eviction_told_in_a_patients_stream_explains_nothing(gw: Box, cloud: Cloud) -> None:
    chain = link(first := gw.tick()).chain
    cloud.take(first, gw.message(Batch(B, (Event(NOW_MS, "eviction", (chain, 2, 9, b"\x00" * 32)),))))
    third = [gw.tick() for _ in range(2)][1]
    assert cloud.receipts(cloud.take(third))["gw-1"].ranges == (covers(third),)


@pytest.mark.parametrize("change", [{0: b"\x01" * 15}, {3: b"\x01" * 31}, {1: -1}, {2: 0}, {2: "9"}])
def test_an_eviction_that_is_not_well_formed_explains_nothing_and_breaks_no_receipt(
    gw: Box, cloud: Cloud, change: dict[int, Any]
) -> None:
    ticks = [gw.tick() for _ in range(3)]
    told = dict(enumerate((link(ticks[0]).chain, 1, 1, link(ticks[1]).hash))) | change
    eviction = Event(NOW_MS, "eviction", tuple(told.values()))
    cloud.take(ticks[0], gw.message(Batch(self_stream("gw-1"), (eviction,))))
    assert cloud.rows("SELECT first, last FROM bundle_runs ORDER BY 1") == [(0, 0), (3, 3)]
    assert cloud.receipts(cloud.take(ticks[2]))["gw-1"].ranges[0].first == 2


def test_no_byte_of_a_bundle_can_be_changed(gw: Box, cloud: Cloud) -> None:
    message = gw.tick()
    source = random.Random(1)
    for _ in range(40):
        data = bytearray(message.payload)
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        taken = cloud.take(Message("gw-1", bytes(data)))
        assert (taken.receipts, taken.unverified) == ((), 1)
    assert count(cloud, "bundles") == 0
    assert set(causes(cloud)) <= {"malformed", "signature", "signer", "epoch-hash"}
    assert cloud.receipts(cloud.take(message))["gw-1"].ranges == (covers(message),)


def test_what_is_not_a_bundle_is_quarantined_whole(cloud: Cloud) -> None:
    taken = cloud.take(Message("gw-1", b"\x00nonsense"), Message("gw-1", b""))
    assert (taken.receipts, causes(cloud)) == ((), ["malformed", "malformed"])
    assert cloud.rows("SELECT gateway, payload FROM quarantine LIMIT 1") == [("gw-1", b"\x00nonsense")]


def test_a_stripped_copy_never_blocks_the_whole_one(gw: Box, cloud: Cloud) -> None:
    message = gw.tick()
    stripped = Message("gw-1", b"\x82" + parse(message.payload).sign1 + b"\x80")
    assert cloud.take(stripped).receipts == ()
    assert causes(cloud) == ["epoch-hash"]
    assert cloud.receipts(cloud.take(message))["gw-1"].ranges == (covers(message),)
    assert count(cloud) == 1


def test_a_bundle_on_another_gateways_topic_is_refused(gw: Box, cloud: Cloud) -> None:
    taken = cloud.take(Message("gw-2", gw.tick().payload))
    assert (taken.receipts, causes(cloud), count(cloud, "bundles")) == ((), ["signer"], 0)


def test_a_gateway_cannot_sign_for_another(cloud: Cloud) -> None:
    mallory = Box("gw-1", signed_by=cloud.boxes["gw-2"].signer)
    assert (cloud.take(mallory.tick()).receipts, causes(cloud)) == ((), ["signer"])


def test_an_unregistered_signer_is_refused(cloud: Cloud) -> None:
    mallory = Box("gw-1", signed_by=signer("mallory"))
    assert (cloud.take(mallory.tick()).receipts, causes(cloud)) == ((), ["signer"])


def test_forgeries_do_not_hold_up_what_arrived_with_them(gw: Box, other: Box, cloud: Cloud) -> None:
    good = [gw.tick(), other.tick()]
    forged = Message("gw-1", good[0].payload[:-1] + b"\x00")
    taken = cloud.take(forged, good[0], Message("gw-1", b"?"), good[1])
    assert (len(taken.plan.bundles), taken.unverified, len(taken.receipts)) == (2, 2, 2)


def test_what_is_sealed_to_nobody_here_is_refused_in_the_receipt(cloud: Cloud) -> None:
    stranger = RecipientKey(X25519, Entropy("stranger")(32))
    box = Box("gw-1", recipient=stranger)
    message = box.tick()
    receipt = cloud.receipts(cloud.take(message))["gw-1"]
    assert (receipt.ranges, receipt.refused) == ((), (Refusal(link(message).chain, 0, "decrypt"),))
    assert (causes(cloud), count(cloud, "bundles")) == (["decrypt"], 0)


def test_records_numbered_twice_are_refused_and_cost_no_other_bundle(gw: Box, cloud: Cloud) -> None:
    first = gw.tick(A)
    again = resealed(first, gw, no=1)
    receipt = cloud.receipts(cloud.take(first, again))["gw-1"]
    assert receipt.refused == (Refusal(link(again).chain, 1, "malformed"),)
    assert receipt.ranges == (covers(first),)
    assert (causes(cloud), count(cloud)) == (["malformed"], 1)


def test_an_epoch_declared_twice_is_refused(gw: Box, cloud: Cloud) -> None:
    first = gw.tick(A)
    twin = Box("gw-1")
    twin.writer = ChainWriter(
        gateway="gw-1",
        chain=link(first).chain,
        signer=gw.signer,
        recipients=[RECIPIENT.recipient],
        predecessor=None,
        random=Entropy("another"),
    )
    again = resealed(twin.tick(B), twin, no=1)
    cloud.take(first)
    assert [each.cause for each in cloud.receipts(cloud.take(again))["gw-1"].refused] == ["malformed"]
    assert count(cloud, "bundles") == 1


def test_an_epoch_declared_again_as_it_was_is_no_harm(gw: Box, cloud: Cloud) -> None:
    first, second = gw.tick(A), gw.tick(A)
    declaring, using = parse(first.payload), cbor.decode(parse(second.payload)._signed.payload)
    sign1 = cose.sign1(gw.signer, cbor.encode([*using[:5], declaring.epoch_hashes, using[6]]), layout.BUNDLE_AAD)
    again = Message("gw-1", b"\x82" + sign1 + first.payload[1 + len(declaring.sign1) :])
    cloud.take(first)
    assert cloud.receipts(cloud.take(again))["gw-1"].refused == ()
    assert (count(cloud, "bundles"), count(cloud, "epoch_parts")) == (2, 1)


def test_the_epochs_of_a_refused_bundle_serve_the_bundles_that_follow(gw: Box, cloud: Cloud) -> None:
    twin = Box("gw-1")
    twin.tick(B)
    refused, good = twin.tick(A), twin.tick(A)
    cloud.take(gw.tick(A))
    assert cloud.receipts(cloud.take(refused))["gw-1"].refused == (Refusal(link(refused).chain, 1, "malformed"),)
    assert cloud.receipts(cloud.take(good))["gw-1"].ranges == (covers(good),)
    assert count(cloud) == 2


def test_a_wearables_stored_record_that_arrives_twice_is_kept_once(gw: Box, cloud: Cloud) -> None:
    def stored(sequence: int, value: int | None) -> Record:
        extras = ((Extra.SEQUENCE, sequence), (Extra.SESSION, "s"))
        return Record("C0:00:00:00:00:01", 1, value, 0, NOW_MS, extras=extras)

    cloud.take(gw.message(Batch(A, (stored(1, 100), stored(2, None)))))
    gw.restart(gw.head)
    again = (stored(1, 100), stored(2, None), stored(1, 101), stored(3, 100))
    taken = cloud.take(gw.message(Batch(A, again)))
    assert (taken.committed.repeated, count(cloud)) == (2, 4)
    assert cloud.store.summary()["gateways"]["gw-1"]["streams"][A.hex()]["missing"] == 0


def test_another_streams_record_is_never_taken_for_a_repetition(gw: Box, cloud: Cloud) -> None:
    record = Record("C0:00:00:00:00:01", 1, 100, 0, NOW_MS, extras=((Extra.SEQUENCE, 1), (Extra.SESSION, "s")))
    taken = cloud.take(gw.message(Batch(A, (record,)), Batch(B, (record,))))
    assert (taken.committed.repeated, count(cloud)) == (0, 2)


def test_the_quarantine_keeps_each_payload_once_and_the_newest_of_all(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound(monkeypatch, QUARANTINE_BUNDLES=3, QUARANTINE_BYTES=10)
    cloud.take(*(Message("gw-1", bytes([0, number])) for number in range(5)), Message("gw-1", b"\x00\x04"))
    assert cloud.rows("SELECT payload, times FROM quarantine ORDER BY id") == [
        (b"\x00\x02", 1),
        (b"\x00\x03", 1),
        (b"\x00\x04", 2),
    ]
    cloud.take(Message("gw-1", b"\x00" * 9))
    assert cloud.rows("SELECT length(payload) FROM quarantine") == [(9,)]


def test_one_gateway_cannot_push_the_others_out_of_the_quarantine(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound(monkeypatch, QUARANTINE_BUNDLES_PER_GATEWAY=2)
    cloud.take(Message("gw-2", b"evidence"), *(Message("gw-1", bytes([number])) for number in range(5)))
    assert cloud.rows("SELECT payload FROM quarantine ORDER BY id") == [(b"evidence",), (b"\x03",), (b"\x04",)]
