"""The report: its word, what people and machines read, and its signature."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.envelope.keys import signer_for
from gateway.errors import ConfigError, SignatureError
from gateway.identity.files import load_certificate, load_private_key
from gateway.lab.pki import make_dev_pki
from gateway.lab.report import Occurrence, Report, check, write
from gateway.lab.verdict import Verdict

SOUND = Verdict(
    emitted=100,
    captured=90,
    stored=95,
    explained=2,
    in_air=3,
    lost_after_fsync=0,
    lost_from_stored_records=0,
    backfilled=5,
    duplicates=0,
    unverified=0,
    kills=1,
    outages=0,
)
CUT = Occurrence("cut", "connections reset", 1.5, took_effect=True, seen="1 reset", broken="", well_again_s=0.4)
REPORT = Report(
    started_ms=1_790_000_000_000,
    seconds=30,
    wearables=3,
    rate=1.0,
    seed=7,
    broker="mosquitto",
    machine="Linux",
    verdict=SOUND,
    planned=2,
    occurrences=(CUT, replace(CUT, at_s=12.0)),
    skipped={"full-disk": "needs root"},
    trouble="",
)
LOST = replace(REPORT, verdict=replace(SOUND, stored=94, lost_after_fsync=1))
IDLE = replace(REPORT, occurrences=(CUT, replace(CUT, took_effect=False)))


def test_all_faults_done_and_nothing_lost_is_a_pass() -> None:
    assert REPORT.word == "pass"


@pytest.mark.parametrize("wrong", [{"lost_after_fsync": 1}, {"duplicates": 1}, {"unverified": 1}, {"stored": 0}])
def test_whatever_ledger_and_store_disagree_on_is_a_fail(wrong: dict[str, int]) -> None:
    assert replace(REPORT, verdict=replace(SOUND, **wrong)).word == "fail"


def test_a_fault_without_effect_makes_the_run_invalid_and_not_green() -> None:
    assert IDLE.word == "invalid"


def test_a_fault_that_was_planned_and_not_done_makes_the_run_invalid() -> None:
    assert replace(REPORT, occurrences=(CUT,)).word == "invalid"


def test_a_loss_is_not_hidden_by_a_fault_without_effect() -> None:
    assert replace(IDLE, verdict=LOST.verdict).word == "fail"


def test_what_the_system_did_wrong_about_a_fault_is_a_fail() -> None:
    late = replace(CUT, broken="noticed too late")
    assert replace(REPORT, occurrences=(CUT, late)).word == "fail"
    assert replace(REPORT, trouble="the gateway did not become ready").word == "fail"


def test_the_summary_counts_faults_by_name_and_tells_what_was_skipped() -> None:
    summary = IDLE.summary()
    assert {key: summary[key] for key in ("verdict", "emitted", "stored", "lost", "in_air", "explained", "seed")} == {
        "verdict": "invalid", "emitted": 100, "stored": 95, "lost": 0, "in_air": 3, "explained": 2, "seed": 7,
    }  # fmt: skip
    assert [(fault["name"], fault["count"]) for fault in summary["faults"]] == [("cut", 2), ("full-disk", 0)]
    assert summary["faults"][0]["effect"].startswith("1 of 2 took effect; ")
    assert summary["faults"][1]["effect"] == "skipped: needs root"


def test_people_read_it_in_80_columns() -> None:
    seen = "something that takes many words to tell, " * 5
    lines = [line for line, _ in replace(REPORT, occurrences=(replace(CUT, seen=seen), CUT)).tell()]
    assert max(map(len, lines)) < 80
    text = "\n".join(lines)
    for expected in ("  1.5  cut", "skipped: needs root", "3 wearables measured 100 values", "PASS: 2 faults"):
        assert expected in text
    assert " ".join(lines[-2:]).endswith("unverified. Not done: full-disk.")


def test_people_read_why_a_run_failed_or_is_invalid() -> None:
    assert "FAIL: ledger and store do not agree." in [line for line, _ in LOST.tell()]
    assert any(line.startswith("INVALID: 1 of 2 faults took no effect") for line, _ in IDLE.tell())


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, Path]:
    """A signed report, and its signer's certificate."""
    make_dev_pki(tmp_path / "pki", ["gw-1", "gw-2"])
    keys = tmp_path / "pki" / "gateways" / "gw-1"
    path = tmp_path / "report.json"
    write(REPORT, path, signer_for(load_private_key(keys / "sign.key")), load_certificate(keys / "sign.crt"))
    return path, keys / "sign.crt"


def test_a_signed_report_verifies_and_says_what_it_said(signed: tuple[Path, Path]) -> None:
    path, certificate = signed
    report = check(path, certificate)
    assert REPORT.summary().items() <= report.items()
    assert [each["seen"] for each in report["occurrences"]] == ["1 reset", "1 reset"]


def test_an_altered_report_and_another_signer_are_refused(signed: tuple[Path, Path]) -> None:
    path, certificate = signed
    with pytest.raises(SignatureError, match="did not sign it as it is"):
        check(path, certificate.parents[1] / "gw-2" / "sign.crt")
    path.write_bytes(path.read_bytes().replace(b'"verdict": "pass"', b'"verdict": "Pass"'))
    with pytest.raises(SignatureError, match="did not sign it as it is"):
        check(path, certificate)


def test_a_report_without_a_signature_is_told(signed: tuple[Path, Path]) -> None:
    path, certificate = signed
    path.with_name("report.json.sig").unlink()
    with pytest.raises(ConfigError, match=r"report\.json\.sig: cannot be read"):
        check(path, certificate)


def test_openssl_verifies_it_too(signed: tuple[Path, Path], tmp_path: Path) -> None:
    path, _ = signed
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed; on Debian: apt install openssl")
    key = tmp_path / "signer.pem"
    extract = ["openssl", "x509", "-in", f"{path}.crt", "-pubkey", "-noout", "-out", key]
    verify = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        key,
        "-rawin",
        "-in",
        path,
        "-sigfile",
        f"{path}.sig",
    ]
    subprocess.run(extract, check=True)
    assert (
        "Signature Verified Successfully" in subprocess.run(verify, check=True, capture_output=True, text=True).stdout
    )
    json.loads(path.read_bytes())
