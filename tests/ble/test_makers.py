"""Makers by company identifier, held against another list of the SIG's numbers."""

from bleak.backends.scanner import AdvertisementData
from bumble.company_ids import COMPANY_IDENTIFIERS

from gateway.ble.makers import MAKERS
from gateway.ble.radio import Heard


def test_every_maker_is_the_company_of_its_number() -> None:
    for number, name in MAKERS.items():
        assert name.casefold() in COMPANY_IDENTIFIERS[number].casefold()


def test_an_advertisement_tells_the_maker_if_it_is_one_of_health_devices() -> None:
    for companies, make in (({0x0170: b""}, "Roche"), ({0x004C: b"", 0x0069: b"x"}, "A&D"), ({0x004C: b""}, None)):
        data = AdvertisementData("x", companies, {}, [], None, -50, ())
        assert Heard.of("F0:00:00:00:01:01", data).make == make
