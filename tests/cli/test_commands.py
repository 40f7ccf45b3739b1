"""The commands as a person runs them: exit status, one-line errors with the way out, JSON beside prose."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str, program: str = "gateway", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"gateway.cli.{program}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=60)


def test_config_check_accepts_what_is_shipped() -> None:
    for name in ("gateway", "receiver"):
        done = run("config", "check", str(ROOT / "config" / f"{name}.toml"))
        assert (done.returncode, done.stdout.strip()) == (0, f"{ROOT}/config/{name}.toml: right")


def test_config_check_names_file_and_key_and_exits_with_2(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text((ROOT / "config" / "gateway.toml").read_text() + "\n[colour]\n")
    done = run("config", "check", str(path))
    assert done.returncode == 2
    assert done.stderr.strip() == f"iomt-gateway: {path}: colour: Extra inputs are not permitted"
    answer = json.loads(run("config", "check", "--json", str(path)).stdout)
    assert answer == {"ok": False, "errors": [f"{path}: colour: Extra inputs are not permitted"]}


def test_config_check_names_a_metric_that_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text((ROOT / "config" / "gateway.toml").read_text() + "\n[quality.limits.glucos]\nflag_below = 60\n")
    done = run("config", "check", str(path))
    assert done.returncode == 2
    assert f"{path}: quality.limits.'glucos': there is no such metric; there is glucose" in done.stderr


@pytest.mark.parametrize("program", ["gateway", "receiver"])
def test_run_with_missing_keys_does_not_start_and_names_the_file(program: str, tmp_path: Path) -> None:
    path = tmp_path / f"{program}.toml"
    text = (ROOT / "config" / f"{program}.toml").read_text()
    path.write_text(text.replace("/var/lib/iomt-gateway", "state").replace("/var/lib/iomt-receiver", "state"))
    done = run("run", "--config", str(path), program=program)
    assert done.returncode == 1
    assert f"{tmp_path}/" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_certs_dev_keeps_what_exists(tmp_path: Path) -> None:
    first = run("certs", "dev", "--out", str(tmp_path / "pki"), "--gateway", "gw-7")
    assert first.returncode == 0, first.stderr
    before = {path: path.read_bytes() for path in sorted((tmp_path / "pki").rglob("*")) if path.is_file()}
    assert run("certs", "dev", "--out", str(tmp_path / "pki"), "--gateway", "gw-7").returncode == 0
    after = {path: path.read_bytes() for path in sorted((tmp_path / "pki").rglob("*")) if path.is_file()}
    assert before == after
    for name in ("gateway", "receiver"):
        assert run("config", "check", str(tmp_path / "pki" / f"{name}.toml")).returncode == 0
    assert (tmp_path / "pki" / "gateways" / "gw-7" / "sign.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["../evil", "gw 2", "receiver", ""])
def test_certs_dev_refuses_an_id_that_no_gateway_can_have(name: str, tmp_path: Path) -> None:
    done = run("certs", "dev", "--out", str(tmp_path / "pki"), "--gateway", name)
    assert done.returncode == 2
    assert "no gateway can have this id" in done.stderr
    assert not (tmp_path / "pki").exists()


def test_a_restored_receiver_counts_its_incarnation_up(tmp_path: Path) -> None:
    path = tmp_path / "receiver.toml"
    path.write_text((ROOT / "config" / "receiver.toml").read_text().replace("/var/lib/iomt-receiver", "state"))
    (tmp_path / "state").mkdir()
    assert "incarnation 1:" in run("restored", "--config", str(path), program="receiver").stdout
    assert "incarnation 2:" in run("restored", "--config", str(path), program="receiver").stdout


def test_decode_answers_every_line_in_order_whatever_it_is() -> None:
    lines = ["2A19 64", "", "2A19 65", "2A18 " + "00" * 100_000, "2A29 -", "\udcff", "2a19 0x32"]
    command = [sys.executable, "-m", "gateway.cli.gateway", "decode", "--json", "-"]
    text = "\n".join(lines).encode(errors="surrogateescape")
    done = subprocess.run(command, input=text, capture_output=True, check=True, timeout=60)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["ok"] for answer in answers] == [True, False, False, False, True, False, True]
    assert answers[-1]["fields"] == {"level_pct": 50}


def test_decode_of_a_malformed_value_is_an_answer_in_json_and_an_error_to_a_person() -> None:
    answered = run("decode", "--json", "2A19", "65")
    assert (answered.returncode, json.loads(answered.stdout)["ok"]) == (0, False)
    told = run("decode", "2A19", "65")
    assert (told.returncode, told.stderr) == (1, "iomt-gateway: 2A19: a battery has no level of 101 %\n")


def test_decode_ends_in_silence_when_nobody_reads_on() -> None:
    command = [sys.executable, "-m", "gateway.cli.gateway", "decode", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write("2A19 64\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith('{"ok": true')
        process.stdout.close()
        process.stdin.write("2A19 64\n")
        process.stdin.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1


def test_capture_without_a_radio_says_so_and_leaves_no_file(tmp_path: Path) -> None:
    made = run("certs", "dev", "--out", str(tmp_path / "pki"), "--gateway", "gw-7")
    assert made.returncode == 0, made.stderr
    done = run("capture", "F0:00:00:00:01:01", "--config", str(tmp_path / "pki" / "gateway.toml"), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "iomt-gateway: ble.adapter: is none; name one that can reach the wearable\n",
    )
    assert not (tmp_path / "capture.jsonl").exists()


@pytest.mark.parametrize("address", ["meter", "F0:00:00:00:01", "F0:00:00:00:01:0G", "F0:00:00:00:01:01:02"])
def test_capture_refuses_what_is_no_address(address: str, tmp_path: Path) -> None:
    done = run("capture", address, cwd=tmp_path)
    assert done.returncode == 2
    assert f"'{address}' is not a Bluetooth address" in done.stderr


def test_vectors_check() -> None:
    done = run("vectors", "--check", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": right") == 4


@pytest.mark.parametrize("program", ["gateway", "receiver"])
def test_help_and_version(program: str) -> None:
    assert "usage: iomt-" in run("--help", program=program).stdout
    assert run("--version", program=program).stdout.startswith("iomt-")


def test_prove_names_the_faults_that_there_are(tmp_path: Path) -> None:
    for asked, told in (("help", "--faults takes names, by commas; there are"), ("cut,cat", "cat: no such fault")):
        done = run("prove", "--faults", asked, cwd=tmp_path)
        assert done.returncode == 2
        assert told in done.stderr
        assert "  black-hole          bytes vanish both ways, nobody is told\n" in done.stderr


def test_prove_without_the_lab_extra_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "bumble.py").write_text("raise ModuleNotFoundError(name='bumble')")
    done = run("prove", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "iomt-gateway: prove: bumble is missing; install iomt-gateway[lab]\n")


def test_prove_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    for arguments, told in (
        (("--seconds", "5", "--faults", "cut,latency"), "is too short to do each of"),
        (("--seconds", "inf"), "--seconds: above 0, at most 2592000"),
        (("--wearables", "0"), "--wearables: 1 to 255"),
        (("--rate", "0"), "--rate: above 0"),
        (("--check", "prove-report.json"), "--check needs --signer"),
    ):
        done = run("prove", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert told in done.stderr


def test_a_reader_that_has_enough_is_no_trouble_however_little_was_said() -> None:
    command = [sys.executable, "-m", "gateway.cli.gateway", "config", "check", str(ROOT / "config" / "gateway.toml")]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    nobody, out = os.pipe()
    os.close(nobody)
    try:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, check=False, timeout=60, env=env)
    finally:
        os.close(out)
    assert (done.returncode, done.stderr) == (1, b"")
