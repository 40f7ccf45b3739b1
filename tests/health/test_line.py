"""What `iomt-gateway decode` answers."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.health.line import decode_line, fields, to_json
from gateway.health.sfloat import Number, Special


def answer(line: str, *, e2e_crc: bool | None = None) -> dict[str, Any]:
    return json.loads(decode_line(line, e2e_crc=e2e_crc), parse_float=Decimal)


def test_a_value_is_told_by_its_fields_with_the_digits_that_the_device_sent() -> None:
    line = decode_line("2A1C 00 4c 0e 00 fe")
    assert line == '{"ok": true, "fields": {"unit": "C", "temperature": 36.60}}'


def test_special_values_are_null_and_have_a_companion() -> None:
    told = answer("2A5F 00fe070208")["fields"]
    assert told == {"spo2_pct": None, "spo2_pct_special": "+INF", "pr_bpm": None, "pr_bpm_special": "-INF"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("SFLOAT 68b0", '{"value": 0.00104}'),
        ("SFLOAT 0520", '{"value": 500}'),
        ("FLOAT 4c0e00fe", '{"value": 36.60}'),
        ("float 0208", None),
        ("SFLOAT 0008", '{"value": null, "value_special": "NRes"}'),
        ("FLOAT ffff7f00", '{"value": null, "value_special": "NaN"}'),
        ("SFLOAT 680000", None),
    ],
)
def test_bare_numbers(line: str, told: str | None) -> None:
    expected = '{"ok": true, "fields": ' + told + "}" if told else '{"ok": false'
    assert decode_line(line).startswith(expected)


def test_the_whole_range_of_float_is_told_without_exponents() -> None:
    assert decode_line("FLOAT 01000080").endswith(": 0." + "0" * 127 + "1}}")
    assert decode_line("FLOAT 0100007f").endswith(": 1" + "0" * 127 + "}}")


def test_an_empty_value_is_a_hyphen() -> None:
    assert answer("2A29 -") == {"ok": True, "fields": {"text": ""}}
    assert answer("2A19 -")["ok"] is False


@pytest.mark.parametrize(
    "name",
    [
        *("2A19", "2a19", "0x2A19", "0X2a19", "00002A19"),
        *("00002a19-0000-1000-8000-00805f9b34fb", "00002A1900001000800000805F9B34FB"),
    ],
)
def test_a_characteristic_is_its_uuid_of_any_width(name: str) -> None:
    assert answer(f"{name} 64") == {"ok": True, "fields": {"level_pct": 100}}


@pytest.mark.parametrize("octets", ["4c0e00fe", "4C 0E 00 FE", "0x4c0e00fe", "4C-0E-00-FE", "4c:0e:00:fe"])
def test_octets_may_have_a_prefix_and_separators(octets: str) -> None:
    assert answer(f"FLOAT {octets}")["fields"] == {"value": Decimal("36.60")}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("", "missing"),
        ("2A19\t65", "101 %"),
        ("2A19", "missing"),
        ("2A1 64", "not a 16-bit UUID"),
        ("-2A1 64", "not a 16-bit UUID"),
        ("battery 64", "not a 16-bit UUID"),
        ("00012a19 64", "not a 16-bit UUID"),
        ("00002a19-0000-1000-8000-00805f9b34fc 64", "not a 16-bit UUID"),
        ("2A00 64", "2A00"),
        ("2A19 6", "not hexadecimal"),
        ("2A19 zz", "not hexadecimal"),
        ("2A19 " + "64" * 513, "more than any attribute"),
        ("2A19 " + "64 " * 100_000, "longer than"),
    ],
)
def test_what_cannot_be_answered_says_why(line: str, error: str) -> None:
    told = answer(line)
    assert told["ok"] is False
    assert error in told["error"]


@given(st.text(), st.none() | st.booleans())
def test_every_line_is_answered(line: str, e2e_crc: bool | None) -> None:  # noqa: FBT001 - hypothesis calls it
    assert set(answer(line, e2e_crc=e2e_crc)) in ({"ok", "fields"}, {"ok", "error"})


@pytest.mark.parametrize(
    ("e2e_crc", "octets", "ok"),
    [
        (None, "06 00 68 00 0a 00", True),
        (None, "08 00 68 00 0a 00 64 a8", True),
        (None, "08 00 68 00 0a 00 64 a9", False),
        (True, "06 00 68 00 0a 00", False),
        (True, "08 00 68 00 0a 00 64 a8", True),
        (False, "06 00 68 00 0a 00", True),
        (False, "08 00 68 00 0a 00 64 a8", False),
    ],
)
def test_whether_there_is_a_crc_can_be_told_or_inferred(e2e_crc: bool | None, octets: str, *, ok: bool) -> None:  # noqa: FBT001 - a table
    assert answer(f"2AA7 {octets}", e2e_crc=e2e_crc)["ok"] is ok


def test_fields_are_those_of_the_characteristic() -> None:
    assert fields("2A19", "64") == {"level_pct": 100}


def test_json_of_nested_values() -> None:
    value = {"a": [Number(3660, -2), None, True, 1], "b": {"c": Number(None, 0, Special.NAN)}, "d": "ü"}
    assert to_json(value) == '{"a": [36.60, null, true, 1], "b": {"c": null}, "d": "\\u00fc"}'
