"""A TPM in software for the whole run, and a box that keeps its keys in it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import GatewayConfig
from gateway.lab.tpm import missing, software_tpm
from tests.identity.conftest import GATEWAY, Box, clinic

__all__ = ["clinic"]


@pytest.fixture(scope="session")
def tcti() -> Iterator[str]:
    if (absent := missing()) is not None:
        pytest.skip(f"{absent} is not installed; on Debian: apt install swtpm tpm2-abrmd, and: make test-tpm")
    with tempfile.TemporaryDirectory() as name, software_tpm(Path(name)) as tcti:  # short enough for a socket's name
        yield tcti


@pytest.fixture
def box(tmp_path: Path, tcti: str) -> Box:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    document = {
        "gateway": {"id": GATEWAY, "state_dir": str(state)},
        "identity": {"keys": "tpm", "tpm": tcti},
        "uplink": {"endpoints": ["localhost:1"]},
    }
    return Box(GatewayConfig.model_validate(document))
