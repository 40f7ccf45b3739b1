"""`iomt-receiver streams`, `export` and `forget` as a person and a script run them, on a store of each kind."""

import csv
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cli import common, receiver
from gateway.identity.files import load_private_key, verify_key
from gateway.lab.pki import make_dev_pki
from gateway.model import Batch
from gateway.receiver import erasure
from tests.receiver.conftest import Box, Cloud, Database, cluster, database, shared_database
from tests.receiver.fhir_server import fhir_server

__all__ = ["cluster", "database", "shared_database"]
A, B = b"\x0a" * 16, b"\x0b" * 16
PATIENT = "Patient/4711"


class Desk:
    """A desk before a store with three readings of A and one of B."""

    def __init__(self, root: Path, postgres: Database | None, shell: Callable[..., tuple[int, str, str]]) -> None:
        self._shell = shell
        make_dev_pki(root / "pki", [])
        self.pki = root / "pki"
        box = Box("gw-1")
        cloud = Cloud(root / "state", {"gw-1": box}, postgres)
        with closing(cloud):
            cloud.take(box.message(Batch(A, box.records(3)), Batch(B, box.records(1))))
        self._postgres = postgres
        self._config = root / "receiver.toml"
        self._config.write_text(
            '[receiver]\nstate_dir = "state"\nregistry = "pki/registry.json"\nrecipient_keys = ["pki/recipient.key"]\n'
            'receipt_key = "pki/receipt.key"\nkey_list = "pki/keys.cbor"\n'
            '[tls]\nca = "pki/ca.crt"\ncert = "pki/receiver.crt"\nkey = "pki/receiver.key"\n'
            '[broker]\nendpoints = ["localhost:1"]\n'
            f'[store]\nurl = "{postgres.worker if postgres else "sqlite"}"\nbackup_days = 30\n'
        )

    def run(self, *arguments: str, role: str = "desk") -> tuple[int, str, str]:
        whose = ("--store", self._postgres.of(role)) if self._postgres else ()
        return self._shell(*arguments, "--config", str(self._config), *whose)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line in this process: its status, and what it wrote."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["iomt-receiver", *arguments])
        status = common.run(receiver.parser())
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture(params=["sqlite", "postgres"])
def desk(request: pytest.FixtureRequest, tmp_path: Path, shell: Callable[..., tuple[int, str, str]]) -> Desk:
    return Desk(tmp_path, request.getfixturevalue("database") if request.param == "postgres" else None, shell)


def test_a_stream_is_assigned_exported_and_forgotten(desk: Desk, tmp_path: Path) -> None:
    assert desk.run("streams", "assign", A.hex(), PATIENT) == (0, f"assigned {A.hex()}\n", "")
    listed = desk.run("streams", "list", "--json")[1]
    assert json.loads(listed) == [
        {"gateway": "gw-1", "stream": A.hex(), "patient": PATIENT},
        {"gateway": "gw-1", "stream": B.hex(), "patient": None},
    ]
    status, out, err = desk.run("export", "csv")
    assert (status, err) == (0, "3 observations\n")
    assert [row["patient"] for row in csv.DictReader(out.splitlines())] == [PATIENT] * 3
    ndjson = tmp_path / "out.ndjson"
    status, _, err = desk.run("export", "fhir", "--out", str(ndjson), "--json")
    assert (status, json.loads(err)) == (0, {"observations": 3, "resources": 5})
    assert {json.loads(line)["resourceType"] for line in ndjson.read_text().splitlines()} == {"Device", "Observation"}
    assert ndjson.stat().st_mode & 0o777 == 0o600
    with fhir_server() as server:
        for _ in range(2):
            assert desk.run("export", "fhir", "--to", server.url)[0] == 0
        assert len(server.of("Observation")) == 3
    certificate = tmp_path / "erased.json"
    assert desk.run("forget", A.hex(), "--yes", "--out", str(certificate), role="eraser") == (0, "", "")
    key = verify_key(load_private_key(desk.pki / "receipt.key").public_key())
    said = erasure.verify(certificate.read_text().strip(), key)
    assert (said["stream"], said["destroyed"]["readings"]) == (A.hex(), 3)
    assert {each["where"] for each in said["held_elsewhere"]} >= {"broker", "gateway", "backups of the store"}
    assert desk.run("export", "csv")[2] == "0 observations\n"
    assert "was forgotten" in desk.run("streams", "assign", A.hex(), PATIENT)[2]


def test_nothing_is_destroyed_without_saying_yes(desk: Desk) -> None:
    status, out, err = desk.run("forget", A.hex())
    assert (status, out) == (2, "")
    assert "say --yes to do it" in err
    desk.run("streams", "assign", A.hex(), PATIENT)
    assert desk.run("export", "csv")[2] == "3 observations\n"


def test_whose_a_stream_was_is_forgotten_at_once(desk: Desk) -> None:
    desk.run("streams", "assign", A.hex(), PATIENT)
    assert PATIENT in desk.run("streams", "list")[1]
    assert desk.run("streams", "unassign", A.hex(), "--json") == (0, f'{{"unassigned": "{A.hex()}"}}\n', "")
    assert PATIENT not in desk.run("streams", "list")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("streams", "assign", A.hex(), "4711"), "is no FHIR reference"),
        (("streams", "assign", "0c" * 16, PATIENT), "streams list"),
        (("export", "csv", "--since", "yesterday"), "is not ISO 8601"),
        (("export", "csv", "--out", "/nowhere/out.csv"), "cannot be written"),
        (("export", "fhir", "--to", "ftp://x"), "is no address of a FHIR server"),
    ],
)
def test_a_wrong_use_says_what_is_wrong(desk: Desk, arguments: tuple[str, ...], words: str) -> None:
    status, out, err = desk.run(*arguments)
    assert status != 0
    assert (out, words in err) == ("", True)
