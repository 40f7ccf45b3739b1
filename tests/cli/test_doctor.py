"""`iomt-gateway doctor` as a person runs it, with the daemon down; beside a running one: tests/nspawn."""

import json
import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from gateway.cli import common, gateway, receiver
from gateway.lab.pki import make_dev_pki
from gateway.lab.site import free_port, write_configurations
from gateway.receiver.fleet import new_recipient_key
from gateway.receiver.sqlite import SqliteStore

RADIO = {"adapter", "rfkill", "BlueZ", "adapter in BlueZ"}
"""As the machine of this test has it."""


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


class Run(Protocol):
    def __call__(self, *arguments: str, program: str = "gateway") -> Done: ...


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command, in this process: it ends as `main` would."""

    def run(*arguments: str, program: str = "gateway") -> Done:
        monkeypatch.setattr(sys, "argv", [f"iomt-{program}", "doctor", *arguments])
        status = common.run((gateway if program == "gateway" else receiver).parser())
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make_dev_pki(tmp_path, ["gw-001"])
    path, _ = write_configurations(tmp_path, "gw-001")
    path.write_text(path.read_text().replace("localhost:8883", f"localhost:{free_port()}"))
    path.chmod(0o600)
    (tmp_path / "gateway-state").mkdir(mode=0o700)
    return path


def test_it_works_with_the_daemon_down_and_says_what_to_mend(run: Run, path: Path) -> None:
    done = run("--config", str(path))
    assert done.stderr == ""
    assert done.returncode == 1, "no broker listens"
    lines = done.stdout.splitlines()
    assert any(line.startswith("WARN  gateway:") for line in lines)
    assert any(line.startswith("FAIL  broker localhost:") for line in lines)
    assert any(line.startswith("OK    permissions: ") for line in lines)
    assert any(line.startswith("SKIP  vulnerabilities: not looked at") for line in lines)
    assert all(len(line) <= 80 for line in lines), "80 columns"
    assert not any(" clean" in line for line in lines)


def test_for_programs_each_finding_has_level_evidence_and_fix(run: Run, path: Path) -> None:
    done = run("--config", str(path), "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert {each["level"] for each in told["findings"]} == {"ok", "warn", "fail", "skip"}
    assert sum(told[level] for level in ("ok", "warn", "fail", "skip")) == len(told["findings"])
    for each in told["findings"]:
        assert each["evidence"]
        assert bool(each["fix"]) is (each["level"] in {"warn", "fail"})


@pytest.mark.parametrize("configured", [True, False])
def test_a_box_that_was_never_enrolled_has_one_trouble_with_its_command(
    run: Run, path: Path, tmp_path: Path, *, configured: bool
) -> None:
    shutil.rmtree(tmp_path / "gateways")
    for name in ("ca.crt", "fleet-root.pub", "keys.cbor"):
        (tmp_path / name).unlink()
    if not configured:
        path.unlink()
    found = json.loads(run("--config", str(path), "--json").stdout)["findings"]
    [trouble] = [each for each in found if each["level"] == "fail" and each["check"] not in RADIO]
    assert trouble["check"] == "enrolment"
    assert trouble["fix"].startswith("iomt-gateway enrol --url ")
    skipped = {each["check"]: each["evidence"] for each in found if each["level"] == "skip"}
    assert skipped["brokers"] == skipped["certificates"] == "not looked at: this box was never enrolled"


def test_a_site_certificate_that_is_missing_alone_comes_by_enrolment(run: Run, path: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").unlink()
    found = json.loads(run("--config", str(path), "--json").stdout)["findings"]
    [ca] = [each for each in found if each["check"] == "site's CA"]
    assert (ca["level"], ca["fix"]) == ("fail", "iomt-gateway enrol; docs/identity.md")


def test_a_wrong_configuration_is_a_finding_and_the_rest_is_examined(run: Run, path: Path) -> None:
    path.write_text(path.read_text() + "\n[colour]\n")
    done = run("--config", str(path))
    assert done.returncode == 1
    assert done.stdout.startswith("FAIL  configuration: ")
    assert "colour: Extra inputs are not permitted" in " ".join(done.stdout.split())
    assert "clock: " in done.stdout


def test_versions_are_held_against_a_snapshot_of_advisories(run: Run, path: Path, tmp_path: Path) -> None:
    affected = [{"package": {"ecosystem": "PyPI", "name": "h11"}, "ranges": []}]
    affected[0]["ranges"] = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}]  # type: ignore[typeddict-item] # JSON
    entry = {"id": "GHSA-h11", "modified": "2026-11-20T00:00:00Z", "summary": "bad chunks", "affected": affected}
    snapshot = tmp_path / "all.zip"
    with zipfile.ZipFile(snapshot, "w") as archive:
        archive.writestr("GHSA-h11.json", json.dumps(entry))
    told = json.loads(run("--config", str(path), "--json", "--advisories", str(snapshot)).stdout)
    [found] = [each for each in told["findings"] if each["check"] == "vulnerabilities"]
    assert (found["level"], found["fix"]) == ("fail", "upgrade h11 to 99")
    done = run("--config", str(path), "--advisories", str(tmp_path / "nowhere.zip"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "nowhere.zip: cannot be read" in done.stderr


def levels(run: Run, *arguments: str) -> dict[str, str]:
    told = json.loads(run("--json", *arguments, program="receiver").stdout)
    return {each["check"]: each["level"] for each in told["findings"]}


def test_a_receiver_is_examined_too(run: Run, path: Path) -> None:
    config = path.with_name("receiver.toml")
    config.write_text(config.read_text().replace("localhost:8883", f"localhost:{free_port()}"))
    arguments = ("--config", str(config))
    found = levels(run, *arguments)
    assert (found["store"], found["incarnation"], found["disk"]) == ("fail", "warn", "fail"), "nothing was made yet"
    state = path.with_name("receiver-state")
    state.mkdir(mode=0o700)
    SqliteStore.open(state).close()
    found = levels(run, *arguments)
    assert [found[each] for each in ("configuration", "store", "incarnation", "disk", "key list", "signers")] == [
        "ok"
    ] * 6
    assert found["vulnerabilities"] == "skip"
    [connect] = [check for check in found if check.endswith(" connect")]
    assert found[connect] == "fail"


def test_a_receiver_that_cannot_open_what_gateways_seal_fails(run: Run, path: Path) -> None:
    _, line = new_recipient_key()
    path.with_name("recipient.key").write_bytes(line)
    done = run("--config", str(path.with_name("receiver.toml")), program="receiver")
    assert done.returncode == 1
    assert "which nothing here opens" in " ".join(done.stdout.split())


def test_a_key_that_cannot_be_used_is_told_and_the_way_is_tried_as_far_as_it_goes(run: Run, path: Path) -> None:
    for name in ("tls.crt", "tls.key"):
        (path.parent / "gateways" / "gw-001" / name).unlink()
    told = {each["check"]: each for each in json.loads(run("--config", str(path), "--json").stdout)["findings"]}
    assert [told[check]["level"] for check in ("TLS certificate", "permissions", "identity")] == ["fail"] * 3
    assert any(check.endswith(" connect") for check in told)
