"""The container, booted once, and a whole site in it: broker, CA, receiver and gateway as services."""

from collections.abc import Iterator

import pytest

from tests.nspawn import container
from tests.nspawn.container import Container
from tests.nspawn.site import Site


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    if reason := container.missing():
        pytest.skip(reason)
    with container.booted(tmp_path_factory.mktemp("nspawn"), container.as_packages) as running:
        yield running


@pytest.fixture(scope="session")
def site(box: Container) -> Site:
    made = Site(box)
    made.set_up()
    return made
