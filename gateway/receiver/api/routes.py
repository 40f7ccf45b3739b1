"""The read API's paths: who may ask, what for, and the OpenAPI document made of the table."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from pydantic import TypeAdapter

from gateway import __version__
from gateway.receiver.api import models, reads

_STREAM: Final = "[0-9a-f]{32}"


class Role(IntEnum):
    """Each may what those before it may."""

    VIEWER = 1
    """Sees which streams there are and whether they are complete; no value."""
    READER = 2
    """Sees readings."""


@dataclass(frozen=True, slots=True)
class Route:
    """What one path answers to GET; `read` takes rows, the stream if the path names one, and the query."""

    path: str
    role: Role
    read: Callable[..., object]
    query: type[models.Query]
    answer: Any

    @property
    def of_a_stream(self) -> bool:
        """Whether the path names one."""
        return "{stream}" in self.path

    def fits(self, path: str) -> tuple[str, ...] | None:
        """The stream in `path`, if it names one; None if `path` is another."""
        found = re.fullmatch(self.path.replace("{stream}", f"({_STREAM})"), path)
        return None if found is None else found.groups()


_OF_A_STREAM: Final = "/v1/streams/{stream}"
ROUTES: Final = (
    Route("/v1/streams", Role.VIEWER, reads.streams, models.StreamsWanted, models.Streams),
    Route(f"{_OF_A_STREAM}/completeness", Role.VIEWER, reads.completeness, models.Nothing, models.Completeness),
    Route(f"{_OF_A_STREAM}/latest", Role.READER, reads.latest, models.Nothing, models.Latest),
    Route(f"{_OF_A_STREAM}/readings", Role.READER, reads.readings, models.ReadingsWanted, models.Readings),
)


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    adapters = [(route.path, "serialization", TypeAdapter(route.answer)) for route in ROUTES]
    trouble = ("trouble", "serialization", TypeAdapter(models.Trouble))
    schemas, definitions = TypeAdapter.json_schemas(
        [*adapters, trouble],  # type: ignore[list-item]  # the key and mode of each are literals
        ref_template="#/components/schemas/{model}",
    )
    failed = _content(schemas["trouble", "serialization"], "see `error` and `message`")
    return {
        "openapi": "3.1.0",
        "info": {"title": "iomt-receiver read API", "version": __version__},
        "paths": {
            route.path: {
                "get": {
                    "operationId": route.read.__name__,
                    "summary": (route.read.__doc__ or "").split(". ")[0].rstrip("."),
                    "description": f"For a {route.role.name.lower()}.",
                    "parameters": list(_parameters(route)),
                    "responses": {
                        "200": _content(schemas[route.path, "serialization"], "with an ETag"),
                        "304": {"description": "it is what If-None-Match says"},
                        "default": failed,
                    },
                }
            }
            for route in ROUTES
        },
        "components": {"schemas": definitions.get("$defs", {})},
    }


def _parameters(route: Route) -> list[dict[str, Any]]:
    stream = {"name": "stream", "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{_STREAM}$"}}
    known = route.query.model_json_schema().get("properties", {})
    queries = [
        {"name": name, "in": "query", "description": schema.pop("description", ""), "schema": schema}
        for name, schema in known.items()
    ]
    return [stream, *queries] if route.of_a_stream else queries


def _content(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
