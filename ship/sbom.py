"""What a package holds, as CycloneDX (cyclonedx.org, ECMA-424), read from what was laid out for it.

A Python package's own bills, of what was compiled or linked into it (PEP 770), are nested in its component.
"""

import datetime as dt
import json
import re
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ship.packages import PYTHON, Package

_OWN = "iomt-gateway"
"""This project's name as a Python package."""
_SPEC = "1.6"


def place(package: Package) -> Path:
    """Where the bill lies in a package: not among documents, which small systems leave out."""
    return Path("usr/share", package.name, "sbom.cdx.json")


def document(package: Package, version: str, architecture: str, site: Path, *, made_at: int) -> str:
    """The bill as JSON: nothing in it depends on when or where it is written. `made_at` in seconds since 1970."""
    distributions = sorted(metadata.distributions(path=[str(site)]), key=_name)
    own = _reference(package, version, architecture)
    bundled = [each for each in distributions if _name(each) != _OWN]
    present = {_name(each): _purl(each) for each in bundled}
    bill: dict[str, Any] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{_SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": _SPEC,
        "version": 1,
        "metadata": {
            "timestamp": dt.datetime.fromtimestamp(made_at, dt.UTC).isoformat(),
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": package.name,
                "version": version,
                "licenses": [{"expression": "Apache-2.0"}],
                "purl": own,
            },
        },
        "components": [_component(each) for each in bundled],
        "dependencies": [
            {"ref": own if _name(each) == _OWN else _purl(each), "dependsOn": sorted(_needs(each, package, present))}
            for each in distributions
        ],
    }
    bill["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bill, sort_keys=True))}"
    return json.dumps(bill, indent=1, sort_keys=True) + "\n"


def _reference(package: Package, version: str, architecture: str) -> str:
    return f"pkg:deb/{package.name}@{version}?arch={architecture}"


def _name(distribution: metadata.Distribution) -> str:
    return canonicalize_name(distribution.name)


def _purl(distribution: metadata.Distribution) -> str:
    return f"pkg:pypi/{_name(distribution)}@{distribution.version}"


def _component(distribution: metadata.Distribution) -> dict[str, Any]:
    component = {
        "type": "library",
        "bom-ref": _purl(distribution),
        "name": _name(distribution),
        "version": distribution.version,
        "licenses": _licences(distribution),
        "purl": _purl(distribution),
    }
    if inside := list(_inside(distribution)):
        component["components"] = inside
    return component


def _licences(distribution: metadata.Distribution) -> list[dict[str, Any]]:
    """As the package declares them: an SPDX expression, else its own words, else its classifiers."""
    declared = distribution.metadata
    for expression in declared.get_all("License-Expression", []):
        return [{"expression": expression}]
    for words in declared.get_all("License", []):
        if words and "\n" not in words:
            return [{"license": {"name": words}}]
    classified = [each for each in declared.get_all("Classifier", []) if each.startswith("License")]
    return [{"license": {"name": each.rpartition(" :: ")[2]}} for each in classified]


def _inside(distribution: metadata.Distribution) -> Iterator[dict[str, Any]]:
    """Yield what the bills inside a package list, under references of their own."""
    for file in sorted(distribution.files or ()):
        if file.parent.name == "sboms" and file.suffix == ".json":
            for part in json.loads(file.read_text(encoding="utf-8")).get("components", []):
                if canonicalize_name(part["name"]) != _name(distribution):
                    plain = {key: part[key] for key in ("type", "name", "version", "licenses", "purl") if key in part}
                    plain["purl"] = re.sub(r"\?.*", "", part.get("purl", ""))
                    yield plain | {"bom-ref": f"{_purl(distribution)}#{part['name']}@{part['version']}"}


def _needs(distribution: metadata.Distribution, package: Package, present: dict[str, str]) -> Iterator[str]:
    """Yield what `distribution` needs, of that which is there."""
    extra = package.lock if _name(distribution) == _OWN else ""
    environment = {
        **{key: str(value) for key, value in default_environment().items()},
        "python_version": PYTHON,
        "extra": extra,
    }
    for line in distribution.requires or ():
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if name in present and (requirement.marker is None or requirement.marker.evaluate(environment)):
            yield present[name]
