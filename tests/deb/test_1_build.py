"""What is in the packages: the same bytes every time, all of it on the bill, and nothing of where it was built."""

import gzip
import json
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ship.packages import PACKAGES, ROOT, Package
from ship.sbom import place
from tests.deb.conftest import Built, build


@pytest.fixture(scope="module", params=PACKAGES, ids=lambda each: each.name)
def package(request: pytest.FixtureRequest) -> Package:
    chosen: Package = request.param
    return chosen


@pytest.fixture(scope="module")
def tree(package: Package, packages: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp(package.name)
    subprocess.run(("dpkg-deb", "--extract", packages.file(package.name), target), check=True)
    return target


def site(tree: Path, package: Package) -> Path:
    return tree / package.home.relative_to("/") / "lib/python3.11/site-packages"


def test_another_build_elsewhere_under_another_umask_has_the_same_bytes(packages: Built, tmp_path: Path) -> None:
    again = Built(build(tmp_path / "out", "--package", "iomt-gateway", umask=0o077))
    assert again.file("iomt-gateway").read_bytes() == packages.file("iomt-gateway").read_bytes()


def test_the_bill_lists_exactly_what_is_there_with_licences(package: Package, tree: Path) -> None:
    text = (tree / place(package)).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = json.loads(text)["components"]
    there = {
        (each.name.lower().replace("_", "-"), each.version)
        for each in metadata.distributions(path=[str(site(tree, package))])
    }
    listed = {(each["name"], each["version"]) for each in components}
    assert {name for name, _ in there} - {name for name, _ in listed} == {"iomt-gateway"}
    assert listed < there
    assert all(each["licenses"] for each in components)


def test_every_file_belongs_to_a_package_that_is_on_the_bill(package: Package, tree: Path) -> None:
    place_of = site(tree, package)
    recorded = {str(file) for each in metadata.distributions(path=[str(place_of)]) for file in each.files or ()}
    files = {str(path.relative_to(place_of)) for path in place_of.rglob("*") if path.is_file()}
    compiled = {name for name in files if name.endswith(".pyc")}
    assert files - compiled <= recorded
    assert compiled, "nothing is compiled beforehand"


def test_manual_and_completions_are_in_it(package: Package, tree: Path) -> None:
    manual = gzip.decompress((tree / f"usr/share/man/man1/{package.name}.1.gz").read_bytes())
    assert b".SH COMMAND" in manual.upper()
    assert package.name in (tree / f"usr/share/bash-completion/completions/{package.name}").read_text()


def test_every_unit_is_stopped_for_an_upgrade(package: Package, packages: Built) -> None:
    command = ("dpkg-deb", "--info", packages.file(package.name), "prerm")
    script = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert all(unit in script for unit in (*package.units, *package.further_units))


def test_nothing_tells_where_it_was_built(tree: Path) -> None:
    scratch = str(Path(tempfile.gettempdir(), "tmp")).encode()
    for path in tree.rglob("*.pyc"):
        content = path.read_bytes()
        assert str(ROOT).encode() not in content, path
        assert scratch not in content, path
    assert not list(tree.rglob("direct_url.json"))


def test_nothing_can_be_written_by_others_and_nothing_is_setuid(tree: Path) -> None:
    modes = {path.stat().st_mode & 0o7777 for path in tree.rglob("*") if not path.is_symlink()}
    assert modes <= {0o755, 0o644}
