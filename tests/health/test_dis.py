"""Device information."""

import pytest

from gateway import health
from gateway.errors import DecodeError


@pytest.mark.parametrize("characteristic", [0x2A24, 0x2A25, 0x2A26, 0x2A27, 0x2A28, 0x2A29])
def test_texts_lose_the_nuls_at_their_end(characteristic: int) -> None:
    assert health.decode(characteristic, "Waage Größe L\0\0".encode()).fields() == {"text": "Waage Größe L"}
    assert health.decode(characteristic, b"").fields() == {"text": ""}
    with pytest.raises(DecodeError, match="UTF-8"):
        health.decode(characteristic, b"\xff")


def test_the_system_id_reads_from_its_last_octet() -> None:
    system = health.decode(0x2A23, bytes.fromhex("563412 feff 9abcde"))
    assert system.fields() == {"system_id": "DE-BC-9A-FF-FE-12-34-56"}
    assert system.encode() == bytes.fromhex("563412feff9abcde")


def test_plug_and_play_numbers() -> None:
    fields = {"source": 1, "vendor": 0x0059, "product": 0x1234, "version": 0x0100}
    assert health.decode(0x2A50, bytes.fromhex("01 59 00 34 12 00 01")).fields() == fields


def test_certifications_are_kept_as_they_are() -> None:
    assert health.decode(0x2A2A, b"\x00\x01\x02").fields() == {"octets": "000102"}


@pytest.mark.parametrize(("characteristic", "octets"), [(0x2A23, bytes(7)), (0x2A50, bytes(6)), (0x2A50, bytes(8))])
def test_a_wrong_length_is_refused(characteristic: int, octets: bytes) -> None:
    with pytest.raises(DecodeError):
        health.decode(characteristic, octets)
