"""docs/network.md names every key that has to do with another host or a port."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.config import Endpoint, FirewallSection, GatewayConfig
from gateway.receiver.config import ReceiverConfig, SiteConfig

PAGE = (Path(__file__).parents[2] / "docs" / "network.md").read_text()
_ENDPOINT = Endpoint.__metadata__[0]  # type: ignore[attr-defined] # what Annotated[...] is at run time has no public type


def speaks_to_a_network(annotation: Any, metadata: list[Any]) -> bool:
    """Whether a value is HOST:PORT, a URL, or a socket."""
    patterns = [str(getattr(each, "pattern", "") or "") for each in metadata]
    parts = [*getattr(annotation, "__args__", ()), annotation]
    return (
        _ENDPOINT in metadata
        or any("://" in each or each == r"^(/.+)?$" for each in patterns)
        or any(_ENDPOINT in getattr(part, "__metadata__", ()) for part in parts)
    )


def keys(model: type[BaseModel]) -> Iterator[str]:
    for section, field in model.model_fields.items():
        part = field.annotation
        assert isinstance(part, type)
        assert issubclass(part, BaseModel)
        for key, each in part.model_fields.items():
            if part is FirewallSection or speaks_to_a_network(each.annotation, each.metadata):
                yield f"{section}.{key}"


@pytest.mark.parametrize("model", [GatewayConfig, ReceiverConfig, SiteConfig])
def test_every_host_and_port_of_the_configuration_is_on_the_page(model: type[BaseModel]) -> None:
    found = list(keys(model))
    assert len(found) >= 3, "the test finds none of them any more"
    assert [key for key in found if f"`{key}`" not in PAGE] == []


def test_the_known_ones_are_found() -> None:
    assert {"uplink.endpoints", "identity.enrolment", "metrics.listen", "control.socket"} <= set(keys(GatewayConfig))
    assert {"broker.endpoints", "jetstream.servers", "store.url", "metrics.listen"} <= set(keys(ReceiverConfig))
    assert {"site.url", "site.endpoints", "ca.listen"} <= set(keys(SiteConfig))
