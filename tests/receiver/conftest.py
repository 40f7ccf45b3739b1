"""A site in one process: gateways with real keys and chains, and a receiver on a real SQLite file or PostgreSQL."""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.envelope.keys import Ed25519Signer, RecipientKey, Signer, VerifyKey
from gateway.envelope.receipt import decode_receipt
from gateway.envelope.seal import ChainWriter
from gateway.errors import ConfigError
from gateway.lab import postgres
from gateway.model import Batch, Event, Gap, Link, Receipt, Record, SealedBundle
from gateway.receiver.intake import Intake, Taken
from gateway.receiver.plan import Message
from gateway.receiver.postgres.store import PostgresStore
from gateway.receiver.sqlite import DATABASE, SqliteStore
from gateway.receiver.store import Store, open_incarnation

NOW_MS = 1_790_000_000_000
X25519 = 50


class Entropy:
    """Repeatable bytes."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._count = 0

    def __call__(self, size: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"{self._seed}/{self._count}".encode()).digest(size)


def signer(name: str) -> Signer:
    return Ed25519Signer(Ed25519PrivateKey.from_private_bytes(Entropy(name)(32)))


RECIPIENT = RecipientKey(X25519, Entropy("recipient")(32))


class Box:
    """One gateway: `tick` seals what it is given and returns the message that would be published."""

    def __init__(self, gateway: str, *, signed_by: Signer | None = None, recipient: RecipientKey = RECIPIENT) -> None:
        self.gateway = gateway
        self.signer = signed_by or signer(gateway)
        self._recipient = recipient
        self._chains = 0
        self._values = 0
        self.restart(None)

    @property
    def head(self) -> Link | None:
        return self.writer.head

    def restart(self, predecessor: Link | None) -> None:
        """Open a new chain."""
        self._chains += 1
        entropy = Entropy(f"{self.gateway}/{self._chains}")
        self.writer = ChainWriter(
            gateway=self.gateway,
            chain=entropy(16),
            signer=self.signer,
            recipients=[self._recipient.recipient],
            predecessor=predecessor,
            random=entropy,
        )

    def records(self, count: int) -> tuple[Record, ...]:
        """`count` values, none like another."""
        start, self._values = self._values, self._values + count
        return tuple(
            Record(device="C0:00:00:00:00:01", metric=1, mantissa=number, exponent=-1, time_ms=NOW_MS + number)
            for number in range(start, start + count)
        )

    def seal(self, *batches: Batch) -> SealedBundle:
        bundle, rest = self.writer.seal(batches, now_ms=NOW_MS)
        assert not rest
        return bundle

    def tick(self, stream: bytes = b"\x01" * 16, count: int = 1) -> Message:
        """One bundle with `count` fresh records of one stream."""
        return self.message(Batch(stream, self.records(count)))

    def message(self, *batches: Batch) -> Message:
        return Message(self.gateway, self.seal(*batches).data)

    def event(self, code: str) -> Batch:
        return Batch(b"\xee" * 16, (Event(NOW_MS, code, (1, "two", b"\x03", None)),))

    def gap(self, stream: bytes, count: int) -> Batch:
        return Batch(stream, Gap(count, "refused", NOW_MS, NOW_MS + 1))


@dataclass(frozen=True)
class Database:
    """A migrated PostgreSQL database: its address for a worker, and for its owner."""

    worker: str
    owner: str

    def of(self, role: str) -> str:
        """Its address for another login."""
        return self.worker.replace("worker@", f"{role}@")

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.owner, options="-c search_path=iomt") as connection:
            cursor = connection.execute(statement.replace("?", "%s").encode(), values)
            return cursor.fetchall() if cursor.description else []


@dataclass
class Cloud:
    """A receiver without its broker."""

    directory: Path
    boxes: dict[str, Box]
    postgres: Database | None = None
    """Instead of SQLite."""
    parked_limit: int = 100
    parked_per_gateway: int = 100
    receipt_signer: Signer = field(default_factory=lambda: signer("receiver"))

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        self.store: Store = (
            PostgresStore.open(self.postgres.worker, incarnation=open_incarnation(self.directory))
            if self.postgres
            else SqliteStore.open(self.directory)
        )
        registry = {
            box.signer.kid: (name, VerifyKey(box.signer.alg, box.signer.public)) for name, box in self.boxes.items()
        }
        self.intake = Intake(
            store=self.store,
            registry=registry,
            recipient_keys={RECIPIENT.kid: RECIPIENT},
            signer=self.receipt_signer,
            parked_limit=self.parked_limit,
            parked_per_gateway=self.parked_per_gateway,
        )

    @cached_property
    def desk(self) -> Store:
        """The store for who assigns and exports."""
        if self.postgres is None:
            return self.store
        return PostgresStore.open(self.postgres.of("desk"), incarnation=self.store.id.incarnation)

    def close(self) -> None:
        for store in {self.store, self.__dict__.get("desk", self.store)}:
            store.close()

    def take(self, *messages: Message) -> Taken:
        return self.intake.take(messages, now_ms=NOW_MS)

    def settle(self, *messages: Message) -> list[Taken]:
        """Take messages, then what was parked and is ready: as the worker does."""
        taken = [self.take(*messages)]
        after = 0
        while ready := self.store.ready(after=after, limit=10):
            taken.append(self.take(*(message for _, message in ready)))
            after = ready[-1][0]
        return taken

    def receipts(self, taken: Taken) -> dict[str, Receipt]:
        key = VerifyKey(self.receipt_signer.alg, self.receipt_signer.public)
        decoded = [decode_receipt(data, {key.kid: key}) for _, data in taken.receipts]
        assert [receipt.gateway for receipt in decoded] == [gateway for gateway, _ in taken.receipts]
        return {receipt.gateway: receipt for receipt in decoded}

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        if self.postgres:
            return self.postgres.rows(statement, *values)
        with sqlite3.connect(self.directory / DATABASE) as database:
            rows = database.execute(statement, values).fetchall()
        database.close()
        return rows

    def everything(self) -> list[Sequence[tuple[Any, ...]]]:
        """All that bundles left in the store, in an order of its own."""
        numbered = (("readings", "seq"), ("events", "seq"), ("gaps", "first"))
        statements = [f"SELECT * FROM {table} ORDER BY gateway, stream, chain, {no}" for table, no in numbered]  # noqa: S608 - our own names
        statements += [
            "SELECT gateway, chain, no, hash, sign1 FROM bundles JOIN chains ON id = chain_id ORDER BY 1, 2, 3",
            "SELECT gateway, chain, first, last, hash FROM bundle_runs JOIN chains ON id = chain_id ORDER BY 1, 2, 3",
        ]
        return [self.rows(statement) for statement in statements]


@pytest.fixture
def gw() -> Box:
    return Box("gw-1")


@pytest.fixture
def other() -> Box:
    return Box("gw-2")


@pytest.fixture(scope="session")
def cluster() -> Iterator[postgres.Cluster]:
    try:
        server = postgres.Cluster("fsync=off")
    except ConfigError as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture(scope="session")
def shared_database(cluster: postgres.Cluster) -> Database:
    return Database(cluster.create("shared"), cluster.url("shared"))


@pytest.fixture
def database(shared_database: Database) -> Database:
    """As after its migration."""
    tables = [
        name
        for (name,) in shared_database.rows(
            "SELECT relname FROM pg_class WHERE relnamespace = 'iomt'::regnamespace AND relkind IN ('r', 'p')"
            " AND NOT relispartition AND relname NOT IN ('store', 'migrations')"
        )
    ]
    shared_database.rows(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY")
    shared_database.rows("ALTER SEQUENCE receipt_counter RESTART")
    shared_database.rows("UPDATE store SET incarnation = 0")
    return shared_database


@pytest.fixture
def sqlite_cloud(tmp_path: Path, gw: Box, other: Box) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path / "receiver", {gw.gateway: gw, other.gateway: other})
    yield cloud
    cloud.store.close()


@pytest.fixture(params=["sqlite", "postgres"])
def cloud(request: pytest.FixtureRequest, tmp_path: Path, gw: Box, other: Box) -> Iterator[Cloud]:
    """On each store: what one does the other does."""
    database = request.getfixturevalue("database") if request.param == "postgres" else None
    cloud = Cloud(tmp_path / "receiver", {gw.gateway: gw, other.gateway: other}, database)
    yield cloud
    cloud.close()
