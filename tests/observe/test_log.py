"""The log: structured, discreet, moderate; to the journal, as JSON, or as text."""

import json
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.observe import journal
from gateway.observe.log import Moderation, configure, discreet

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _undisturbed() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("gateway").setLevel(logging.NOTSET)


def record(message: str, *arguments: object, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "gateway.ble", "levelno": level, "levelname": logging.getLevelName(level)})
    made.msg, made.args = message, arguments
    vars(made).update(extra)
    return made


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("F0:00:00:00:01:2A: the link ended", "..:2A: the link ended"),
        ("dev_F0_00_00_00_01_2A: does not answer", "dev_..:2A: does not answer"),
        ("f0-00-00-00-01-2a", "..:2a"),
        ("from F0:00:00:00:01:2A to F0:00:00:00:01:2B.", "from ..:2A to ..:2B."),
        ("1.2.3.4:8883: connected", "1.2.3.4:8883: connected"),
        ("2026-11-25T02:00:00Z", "2026-11-25T02:00:00Z"),
        ("kid 0a0b0c0d0e0f", "kid 0a0b0c0d0e0f"),
        (":".join(["AB"] * 32), ":".join(["AB"] * 32)),
    ],
)
def test_a_wearables_address_is_never_told_whole(text: str, told: str) -> None:
    assert discreet(text) == told


def test_json_has_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    logging.getLogger("gateway.ble").warning("%s: lost", "F0:00:00:00:01:2A", extra={"device": "F0:00:00:00:01:2A"})
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["room"], line["event"], line["device"]) == (
        "warning",
        "gateway.ble",
        "..:2A: lost",
        "..:2A",
    )


def test_an_exception_is_told_with_where_and_without_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text")
    try:
        {}["F0:00:00:00:01:2A"]
    except KeyError:
        logging.getLogger("gateway.ble").exception("broken")
    told = capsys.readouterr().err
    assert "KeyError: '..:2A'" in told
    assert "F0:00" not in told


def test_libraries_are_heard_from_warning_on(capsys: pytest.CaptureFixture[str]) -> None:
    configure("debug", "text")
    logging.getLogger("bleak").info("chatter")
    logging.getLogger("bleak").warning("F0:00:00:00:01:2A trouble")
    logging.getLogger("gateway").debug("detail")
    told = capsys.readouterr().err
    assert "chatter" not in told
    assert "..:2A trouble" in told
    assert "detail" in told


def fields(datagram: bytes) -> dict[str, str]:
    """journald's reading of an entry whose fields all have their length."""
    found = {}
    while datagram:
        key, _, rest = datagram.partition(b"\n")
        (length,) = struct.unpack_from("<Q", rest)
        found[key.decode()] = rest[8 : 8 + length].decode()
        assert rest[8 + length : 9 + length] == b"\n"
        datagram = rest[9 + length :]
    return found


def test_the_journal_gets_fields_and_a_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(journal, "SOCKET", Path("journal"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("journal")
        configure("info", "journal")
        logging.getLogger("gateway.uplink").error("no way\nout", extra={"cause": "dns", "device": "F0:00:00:00:01:2A"})
        told = fields(listening.recv(100_000))
    assert told == {
        "MESSAGE": "no way\nout",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "iomt",
        "IOMT_ROOM": "gateway.uplink",
        "IOMT_CAUSE": "dns",
        "IOMT_DEVICE": "..:2A",
    }
    logging.getLogger("gateway.uplink").error("nobody listens any more")  # and nothing breaks


def test_without_a_journal_it_is_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(journal, "SOCKET", tmp_path / "nowhere")
    configure("info", "journal")
    logging.getLogger("gateway").info("here")
    assert json.loads(capsys.readouterr().err)["event"] == "here"


_SAY = """
import logging
from pathlib import Path
from gateway.observe import journal, log
journal.SOCKET = Path("journal")
log.configure("info", "auto")
logging.getLogger("gateway").info("here")
"""


def test_by_itself_it_is_json_into_a_pipe_and_the_journal_where_systemd_connected_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    say = (sys.executable, "-c", _SAY)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(say, capture_output=True, text=True, check=True, env=env)
    assert json.loads(said.stderr)["event"] == "here"
    with Path("err").open("w") as file, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("journal")
        status = os.fstat(file.fileno())
        env["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
        subprocess.run(say, stderr=file, check=True, env=env)
        listening.settimeout(30)
        assert fields(listening.recv(100_000))["MESSAGE"] == "here"
    assert Path("err").read_text() == ""


def test_what_repeats_itself_is_told_once_a_minute_with_how_many_it_stands_for() -> None:
    now_s = 0.0
    moderation = Moderation(lambda: now_s)
    assert [moderation.filter(record("no link", device="a")) for _ in range(5)] == [True, False, False, False, False]
    assert moderation.filter(record("no link", device="b")), "another wearable is another matter"
    assert moderation.filter(record("no link", level=logging.ERROR, device="a")), "so is another level"
    now_s = 61.0
    again = record("no link", device="a")
    assert moderation.filter(again)
    assert vars(again)["times"] == 5


def test_whoever_says_very_much_is_cut_short_and_that_is_told() -> None:
    now_s = 0.0
    moderation = Moderation(lambda: now_s)
    assert sum(moderation.filter(record("line %d", number)) for number in range(1000)) == 600
    now_s = 60.0
    after = record("calm again")
    assert moderation.filter(after)
    assert vars(after)["kept_back"] == 400


def test_many_subjects_are_forgotten_when_their_time_is_over() -> None:
    now_s = 0.0
    moderation = Moderation(lambda: now_s)
    for number in range(5000):
        now_s = float(number)
        moderation.filter(record("line %d", number))
    assert len(moderation._repeated._quiet) <= 1100
