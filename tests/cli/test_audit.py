"""`iomt-receiver audit` as a person and a script run it."""

import json
from pathlib import Path

import pytest

from gateway.receiver.plan import Message
from tests.receiver.conftest import Box, Cloud

from .test_commands import ROOT, run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A receiver whose store holds the bundles 0, 1 and 3 of a gateway."""
    box = Box("gw-1")
    cloud = Cloud(tmp_path / "state", {"gw-1": box})
    messages = [box.tick() for _ in range(4)]
    cloud.take(messages[0], messages[1], messages[3])
    cloud.store.close()
    signer = {"kid": box.signer.kid.hex(), "gateway": "gw-1", "alg": box.signer.alg, "public": box.signer.public.hex()}
    (tmp_path / "registry.json").write_text(json.dumps({"signers": [signer]}))
    shipped = (ROOT / "config" / "receiver.toml").read_text()
    path = tmp_path / "receiver.toml"
    path.write_text(shipped.replace('"/var/lib/iomt-receiver"', '"state"'))
    (tmp_path / "missing").write_bytes(messages[2].payload)
    return path


def test_what_is_unexplained_is_told_and_exits_with_1(config: Path) -> None:
    done = run("audit", "--config", str(config), program="receiver")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "gw-1: 3 of 3 bundles verified, chains: 1"
    assert lines[1].endswith("3 records, 1 missing")
    assert lines[2].startswith("    records 2..2 of chain ")
    assert lines[2].endswith(": unexplained")
    assert lines[-1] == "2 unexplained"


def test_json_is_one_object_that_says_the_same(config: Path) -> None:
    done = run("audit", "--json", "--config", str(config), program="receiver")
    report = json.loads(done.stdout)
    assert (done.returncode, report["verdict"], report["unexplained"]) == (1, "unexplained", 2)
    assert report["gateways"]["gw-1"]["missing"][0]["cause"] == "unexplained"


def test_a_store_in_which_nothing_is_missing_exits_with_0(config: Path) -> None:
    cloud = Cloud(config.parent / "state", {"gw-1": Box("gw-1")})
    cloud.take(Message("gw-1", (config.parent / "missing").read_bytes()))
    cloud.store.close()
    done = run("audit", "--stream", "01" * 16, "--config", str(config), program="receiver")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "clean: nothing is unexplained")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--stream", "xyz"), "32 hexadecimal digits"),
        (("--stream", "02" * 16), "no record of this stream"),
        (("--colour",), "unrecognized arguments"),
    ],
)
def test_a_wrong_use_exits_with_2(config: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run("audit", "--config", str(config), *arguments, program="receiver")
    assert done.returncode == 2
    assert words in done.stderr


def test_a_store_or_registry_that_cannot_be_read_exits_with_2(config: Path) -> None:
    (config.parent / "registry.json").unlink()
    done = run("audit", "--config", str(config), program="receiver")
    assert (done.returncode, "registry.json: cannot be read" in done.stderr) == (2, True)
    (config.parent / "state" / "receiver.db").unlink()
    (config.parent / "registry.json").write_text('{"signers": []}')
    done = run("audit", "--config", str(config), program="receiver")
    assert (done.returncode, "receiver.db: cannot be read" in done.stderr) == (2, True)
