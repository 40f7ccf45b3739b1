"""Who may use a broker that has no ACL by pattern: printed from the registry, without the revoked."""

import json
import re
from pathlib import Path

import pytest

from gateway.cli import receiver as cli
from gateway.errors import ConfigError
from gateway.receiver.rabbitmq import definitions
from gateway.receiver.registry import Registry
from tests.receiver.test_decommission import place

__all__ = ["place"]


def printed(place: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    parsed = cli.parser().parse_args([*arguments, "--config", str(place / "receiver.toml")])
    assert parsed.command(parsed) == 0
    return capsys.readouterr().out


def test_the_revoked_are_no_users_any_more(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("nats-users", "rabbitmq-users"):
        assert "gw-2" in printed(place, capsys, command)
    Registry(place / "registry.json").revoke("gw-2")
    for command in ("nats-users", "rabbitmq-users"):
        said = printed(place, capsys, command)
        assert "gw-1" in said
        assert "gw-2" not in said


def test_rabbitmq_can_be_told_of_gateways_that_never_connected(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users = json.loads(printed(place, capsys, "rabbitmq-users", "gw-9"))["users"]
    assert {each["name"] for each in users} == {"receiver", "gw-1", "gw-2", "gw-9"}
    assert {each["password_hash"] for each in users} == {""}
    with pytest.raises(ConfigError, match="no gateway can have this id"):
        printed(place, capsys, "rabbitmq-users", "gw.*")


@pytest.mark.parametrize(
    ("user", "way", "key", "allowed"),
    [
        ("gw-1", "write", "v1.gw.gw-1.up.data", True),
        ("gw-1", "write", "v1.gw.gw-1.status", True),
        ("gw-1", "write", "v1.gw.gw-10.up.data", False),
        ("gw-1", "write", "v1.gw.gw-1.down.keys", False),
        ("gw-1", "read", "v1.gw.gw-1.down.receipt", True),
        ("gw-1", "read", "v1.gw.gw-1.down.#", True),
        ("gw-1", "read", "v1.gw.*.down.receipt", False),
        ("gw-1", "read", "v1.gw.gw-1.up.data", False),
        ("gw-1", "read", "#", False),
        ("receiver", "read", "v1.gw.*.up.data", True),
        ("receiver", "write", "v1.gw.gw-1.down.receipt", True),
        ("receiver", "write", "v1.gw.gw-1.up.data", False),
    ],
)
def test_topics_are_confined(user: str, way: str, key: str, allowed: bool) -> None:  # noqa: FBT001 - a table's column
    topics = json.loads(definitions(["gw-1", "gw-10"]))["topic_permissions"]
    [mine] = [each for each in topics if each["user"] == user]
    assert bool(re.search(mine[way], key)) == allowed
