"""What is packed: units, helpers and locks exist, and nothing that a unit runs is left out."""

import re

import pytest

from gateway import __version__
from gateway.observe.advisories import pinned
from ship.packages import PACKAGES, ROOT, Package, version

UNITS = {path.name for path in (ROOT / "systemd").glob("iomt-*.*") if path.suffix in {".service", ".path", ".timer"}}


def test_every_unit_is_in_a_package() -> None:
    packed = [unit for package in PACKAGES for unit in (*package.units, *package.further_units)]
    assert sorted(packed) == sorted(UNITS)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda each: each.name)
def test_what_its_units_run_is_in_the_package(package: Package) -> None:
    texts = [(ROOT / "systemd" / unit).read_text() for unit in (*package.units, *package.further_units)]
    run = {name for text in texts for name in re.findall(r"^Exec\w+=-?(/usr/lib/iomt\S+)", text, re.MULTILINE)}
    assert run <= {
        *(f"{package.home}/libexec/{helper}" for helper in package.helpers),
        *(f"{package.home}/bin/{script}" for script in ("iomt-gateway", "iomt-receiver")),
    }


@pytest.mark.parametrize("package", PACKAGES, ids=lambda each: each.name)
def test_no_service_starts_before_it_is_configured(package: Package) -> None:
    for unit in package.units:
        if unit.endswith(".service"):
            assert "\nConditionPathExists=/" in (ROOT / "systemd" / unit).read_text(), unit


def test_the_gateway_needs_nothing_of_the_receiver() -> None:
    gateway, receiver = (pinned((ROOT / "requirements" / f"{each.lock}.txt").read_text()) for each in PACKAGES)
    assert gateway.items() < receiver.items()


def test_a_package_bears_the_version_of_the_program() -> None:
    assert version("3") == f"{__version__}-3"
