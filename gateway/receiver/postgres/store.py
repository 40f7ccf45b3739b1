"""The store in PostgreSQL 15 or newer: any number of workers, each with one connection of its own.

Its methods block; the worker calls them in a thread, one at a time. From `load` to `commit` lies one transaction that
holds the gateways of the bundles: no two workers decide about the same gateway at once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self

import psycopg
from psycopg import Connection

from gateway.envelope.open import SignedBundle
from gateway.errors import StoreError
from gateway.model import StoreId
from gateway.receiver import queries
from gateway.receiver.plan import Message, Plan, State
from gateway.receiver.postgres import schema
from gateway.receiver.postgres.loading import LOCK, load
from gateway.receiver.postgres.writing import Writer
from gateway.receiver.queries import NEWEST, READY
from gateway.receiver.store import Committed, StoredStream
from gateway.receiver.summary import summary

_OLDEST = 150_000
_DAY_MS = 86_400_000
_OPTIONS = " ".join(
    f"-c {setting}"
    for setting in (
        "search_path=iomt",
        "synchronous_commit=on",
        # A worker that is stopped, or whose machine is gone, gives its gateways to the others.
        "idle_in_transaction_session_timeout=60s",
        "lock_timeout=30s",
        "tcp_keepalives_idle=10",
        "tcp_keepalives_interval=5",
        "tcp_keepalives_count=3",
    )
)
_AGREE = "UPDATE store SET incarnation = greatest(incarnation, %s) RETURNING store, incarnation"

_ERASE_MARKS = "DELETE FROM device_records WHERE source_id IN (SELECT id FROM sources WHERE stream_id = ?)"


class PostgresStore:
    """A `Store` in the schema `iomt` of a PostgreSQL database.

    Everything raises `StoreError` with what PostgreSQL said, and then nothing has changed; the next call connects anew.
    """

    def __init__(self, url: str, incarnation: int) -> None:
        self._url = url
        self._incarnation = incarnation
        self._partitioned_day = -1
        self._connection, self._id = self._connect()

    @classmethod
    def open(cls, url: str, *, incarnation: int) -> Self:
        """Connect to a migrated database; `incarnation` is the one in force, the same for every worker."""
        return cls(url, incarnation)

    @property
    def id(self) -> StoreId:
        """Random at the first migration, with the incarnation in force."""
        return self._id

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def load(self, bundles: Sequence[SignedBundle]) -> State:
        """What is known of all that these bundles touch; their gateways are this worker's until `commit`."""
        with self._declared("cannot load") as connection:
            connection.rollback()
            return load(connection, bundles)

    def commit(self, plan: Plan, *, now_ms: int) -> Committed:
        """Write all of `plan` durably, or nothing."""
        with self._declared("cannot commit") as connection:
            day = now_ms // _DAY_MS
            if day != self._partitioned_day:
                connection.execute("SELECT ensure_partitions(%s)", (now_ms,))
            committed = Writer(connection, now_ms).write(plan)
            connection.commit()
            self._partitioned_day = day
            return committed

    def ready(self, *, after: int, limit: int) -> list[tuple[int, Message]]:
        """Parked bundles, numbered beyond `after`, whose epochs have all arrived; ascending."""
        return [(number, Message(gateway, payload)) for number, gateway, payload in self.rows(READY, after, limit)]

    def last_received_ms(self) -> dict[str, int]:
        """When the newest bundle of each gateway arrived."""
        return dict(self.rows(NEWEST))

    def summary(self) -> dict[str, Any]:
        """For people: per gateway and stream what is here and what is missing, in one snapshot."""
        with self._declared("cannot load") as connection:
            connection.rollback()
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            found = summary(lambda query: connection.execute(query.encode()).fetchall())
            connection.rollback()
            return found

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What one of `queries` finds."""
        with self._declared("cannot load") as connection:
            rows = connection.execute(query.replace("?", "%s").encode(), values).fetchall()
            connection.rollback()
            return rows

    def change(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        """Run some of `queries` with their values, all of them durably or none."""
        with self._declared("cannot commit") as connection:
            connection.rollback()
            for statement, values in statements:
                connection.execute(statement.replace("?", "%s").encode(), values)
            connection.commit()

    def erase(self, stream: StoredStream, certify: Callable[[dict[str, int]], str], *, now_ms: int) -> str:
        """Destroy all of a stream and close it; its bytes go with the next VACUUM, and as the log is recycled."""
        with self._declared("cannot erase") as connection:
            connection.rollback()
            connection.execute(LOCK, ([stream.gateway],))
            steps = (("record marks", _ERASE_MARKS), *queries.ERASE)
            gone = {}
            for value, each in ((stream.number, steps), (stream.gateway, queries.ERASE_WAITING)):
                for what, statement in each:
                    gone[what] = connection.execute(statement.replace("?", "%s").encode(), (value,)).rowcount
            connection.execute(queries.CLOSE.replace("?", "%s").encode(), (now_ms, stream.number))
            document = certify(gone)
            connection.execute(queries.CERTIFY.replace("?", "%s").encode(), (stream.stream, document))
            connection.commit()
            return document

    def _connect(self) -> tuple[Connection, StoreId]:
        try:
            connection = psycopg.connect(self._url, options=_OPTIONS, application_name="iomt-receiver")
        except psycopg.Error as error:
            raise StoreError(f"PostgreSQL: cannot connect: {_told(error)}") from error
        try:
            return connection, self._checked(connection)
        except psycopg.Error as error:
            connection.close()
            raise StoreError(f"PostgreSQL: cannot be used: {_told(error)}") from error
        except StoreError:
            connection.close()
            raise

    def _checked(self, connection: Connection) -> StoreId:
        if connection.info.server_version < _OLDEST:
            raise StoreError("PostgreSQL: is older than 15")
        present, known = schema.version(connection), schema.latest()
        if present != known:
            raise StoreError(
                f"PostgreSQL: has schema {present}; this receiver knows {known}: run `iomt-receiver store migrate`"
            )
        [(store, incarnation)] = connection.execute(_AGREE, (self._incarnation,)).fetchall()
        if incarnation != self._incarnation:
            raise StoreError(
                f"PostgreSQL: another worker runs with incarnation {incarnation}, this one with {self._incarnation}:"
                " all workers need the file `incarnation` of the highest number"
            )
        connection.commit()
        return StoreId(store, incarnation)

    @contextmanager
    def _declared(self, what: str) -> Iterator[Connection]:
        """The connection, made anew if it was lost; turns what PostgreSQL says into `StoreError` and rolls back."""
        if self._connection.closed:
            self._connection, self._id = self._connect()
        try:
            yield self._connection
        except psycopg.Error as error:
            with suppress(psycopg.Error):
                self._connection.rollback()
            raise StoreError(f"PostgreSQL: {what}: {_told(error)}") from error


def _told(error: psycopg.Error) -> str:
    """What PostgreSQL said, on one line and without its detail, which may quote values."""
    primary = error.diag.message_primary or str(error)
    return " ".join(primary.split())
