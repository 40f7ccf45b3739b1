"""`iomt-receiver store` as the owner of a database runs it."""

import json
from pathlib import Path

import psycopg

from gateway.lab.postgres import Cluster
from tests.cli.test_commands import ROOT, run
from tests.receiver.conftest import cluster

__all__ = ["cluster"]


def configuration(directory: Path, extra: str) -> str:
    path = directory / "receiver.toml"
    text = (ROOT / "config" / "receiver.toml").read_text()
    path.write_text(text.replace("[store]", f"[store]\n{extra}", 1))
    return str(path)


def test_migrate_and_maintain_say_what_they_did(cluster: Cluster, tmp_path: Path) -> None:
    with psycopg.connect(cluster.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE owned")
    config = configuration(tmp_path, f'url = "{cluster.url("owned", "worker")}"\nretention_days = 40')
    owner = ("--config", config, "--owner", cluster.url("owned"))
    first = run("store", "migrate", *owner, program="receiver")
    assert (first.returncode, first.stdout.splitlines()[0]) == (0, "applied 0001_store.sql")
    assert json.loads(run("store", "migrate", "--json", *owner, program="receiver").stdout) == {"applied": []}
    assert run("store", "maintain", *owner, program="receiver").stdout == "nothing to drop\n"


def test_sqlite_needs_no_owner(tmp_path: Path) -> None:
    done = run("store", "migrate", "--config", configuration(tmp_path, ""), program="receiver")
    assert done.returncode == 2
    assert "SQLite needs none of this" in done.stderr


def test_what_is_kept_for_ever_is_not_dropped(tmp_path: Path) -> None:
    done = run("store", "maintain", "--config", configuration(tmp_path, ""), program="receiver")
    assert done.returncode == 2
    assert "store.retention_days is not set" in done.stderr
