"""A private PostgreSQL on a Unix socket, as installed, for tests and benchmarks: everything real, nothing shared."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from gateway.errors import ConfigError
from gateway.receiver.postgres.schema import migrate

_READY_S = 60.0
_DEBIAN = "/usr/lib/postgresql"
_SUPERUSER = "postgres"


def program(name: str) -> str | None:
    """Where one of PostgreSQL's programs is installed, newest version first, if it is."""
    versions = sorted(Path(_DEBIAN).glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*map(str, versions), os.environ.get("PATH", "")]))


class Cluster:
    """A server in a directory of its own; a context manager that ends it and removes everything.

    PostgreSQL refuses to run as root, who starts it as the user `postgres` of Debian's package.
    Raises `ConfigError` if it is not installed.
    """

    def __init__(self, *settings: str) -> None:
        server, initialise = program("postgres"), program("initdb")
        if server is None or initialise is None:
            raise ConfigError("PostgreSQL is not installed; on Debian: apt install postgresql")
        self._user = _SUPERUSER if os.geteuid() == 0 else None
        self._directory = Path(tempfile.mkdtemp(prefix="iomt-pg-"))
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self._directory, account.pw_uid, account.pw_gid)
        self._command = [server, "-D", str(self._directory / "data"), "-k", str(self._directory)]
        for setting in ("listen_addresses=", *settings):
            self._command += ["-c", setting]
        self._process: subprocess.Popen[bytes] | None = None
        self._run(initialise, "-D", str(self._directory / "data"), "-U", _SUPERUSER, "-A", "trust", "--no-sync")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._directory)

    def url(self, database: str = "postgres", role: str = _SUPERUSER) -> str:
        """How to reach one of its databases."""
        return f"postgresql://{role}@/{database}?host={self._directory}"

    def create(self, database: str) -> str:
        """Make a migrated database, and the logins `worker`, `reader`, `desk`, `eraser`; the worker's address."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(database)))
            migrate(self.url(database))
            connection.execute(
                "DO $$ BEGIN IF to_regrole('worker') IS NULL THEN CREATE ROLE worker LOGIN IN ROLE iomt_worker;"
                " CREATE ROLE reader LOGIN IN ROLE iomt_reader;"
                " CREATE ROLE desk LOGIN IN ROLE iomt_desk;"
                " CREATE ROLE eraser LOGIN IN ROLE iomt_eraser; END IF; END $$"
            )
        return self.url(database, "worker")

    @property
    def process(self) -> int:
        """The process id of the running server."""
        assert self._process is not None  # noqa: S101 - between `start` and `stop`
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers."""
        log = (self._directory / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, user=self._user, cwd=self._directory, start_new_session=True
            )
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                psycopg.connect(self.url()).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    words = (self._directory / "log").read_text(errors="replace")[-2000:]
                    raise ConfigError(f"PostgreSQL did not start: {words}") from None
                time.sleep(0.05)
            else:
                return

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """End it at once, as a crash would, unless another signal is named."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=self._user, cwd=self._directory)
