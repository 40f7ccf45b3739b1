"""Record Access Control Point."""

import pytest

from gateway import health
from gateway.errors import DecodeError
from gateway.health import racp
from gateway.health.date_time import DateTime
from gateway.health.racp import Code, Filter, Opcode, Operator


@pytest.mark.parametrize(
    ("octets", "fields"),
    [
        ("01 01", {"op": 1, "operator": 1}),
        ("01 06", {"op": 1, "operator": 6}),
        ("04 03 01 05 00", {"op": 4, "operator": 3, "filter": 1, "operand": [5]}),
        ("01 04 01 05 00 0a 00", {"op": 1, "operator": 4, "filter": 1, "operand": [5, 10]}),
        ("02 02 02 e8 07 02 0d 0c 0b 0a", {"op": 2, "operator": 2, "filter": 2, "operand": ["2024-02-13T12:11:10"]}),
        ("01 03 09 01 02 03", {"op": 1, "operator": 3, "filter": 9, "operand": [1, 2, 3]}),
        ("03 00", {"op": 3, "operator": 0}),
        ("05 00 19 00", {"op": 5, "operator": 0, "count": 25}),
        ("05 00 19 00 01 00", {"op": 5, "operator": 0, "count": 65561}),
        ("06 00 01 06", {"op": 6, "operator": 0, "request": 1, "code": 6}),
        ("06 00 63 c8", {"op": 6, "operator": 0, "request": 99, "code": 200}),
    ],
)
def test_it_says_what_was_sent_and_encodes_to_it(octets: str, fields: dict[str, object]) -> None:
    procedure = health.decode(0x2A52, bytes.fromhex(octets))
    assert procedure.fields() == fields
    assert procedure.encode() == bytes.fromhex(octets)


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "01",
        "00 00",
        "09 01",
        "01 07",
        "01 00",
        "01 01 00",
        "01 03",
        "01 03 01 05",
        "01 03 01 05 00 00",
        "01 04 01 05 00",
        "01 04 09 01 02 03",
        "01 03 09",
        "01 03 02 e8 07 02 1f 0c 0b 0a",
        "03 01",
        "03 00 00",
        "05 01 19 00",
        "05 00 19",
        "05 00 19 00 00",
        "06 00 01",
        "06 00 01 01 00",
    ],
)
def test_what_breaks_the_table_is_refused(octets: str) -> None:
    with pytest.raises(DecodeError):
        racp.decode(bytes.fromhex(octets))


def test_the_requests_of_a_collector() -> None:
    assert racp.encode_request(Opcode.REPORT_NUMBER) == bytes.fromhex("04 01")
    assert racp.encode_request(Opcode.REPORT, first=0x1234) == bytes.fromhex("01 03 01 34 12")
    assert racp.encode_abort() == bytes.fromhex("03 00")


def test_kinds_can_be_told_apart() -> None:
    assert racp.decode(b"\x05\x00\x07\x00") == racp.NumberOfRecords(7)
    assert racp.decode(b"\x06\x00\x01\x01") == racp.Response(Opcode.REPORT, Code.SUCCESS)
    by_time = racp.Request(Opcode.REPORT, Operator.FROM, Filter.TIME, (DateTime(2024, 2, 13, 12, 11, 10),))
    assert racp.decode(by_time.encode()) == by_time
