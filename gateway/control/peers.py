"""Who asks, and what they may: the kernel names the user and groups of a connection, the configuration their roles."""

import grp
import os
import pwd
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from gateway.config import ControlSection
from gateway.errors import ConfigError
from gateway.observe.http import Credentials

_ROOT = 0
_GID_MAP = Path("/proc/self/gid_map")
"""user_namespaces(7)."""


class Role(IntEnum):
    """Each may what those before it may."""

    VIEWER = 1
    """Looks."""
    OPERATOR = 2
    """Works with wearables: scans, pairs, assigns; sees readings."""
    ADMIN = 3
    """Decides what cannot be undone, and what a security event asks of a person."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a role."""

    name: str
    role: Role


class Roles:
    """Members of a group have its role; root and the user that the gateway runs as are admins.

    Raises `ConfigError` for a group that does not exist, or that the kernel hides from this process.
    """

    def __init__(self, config: ControlSection) -> None:
        groups = {
            Role.VIEWER: config.viewer_group,
            Role.OPERATOR: config.operator_group,
            Role.ADMIN: config.admin_group,
        }
        self._roles = {_gid(name): role for role, name in groups.items() if name}
        self.socket_mode = 0o666 if self._roles else 0o600
        """Whoever connects is asked for their role; without groups nobody else need connect."""

    def person(self, credentials: Credentials) -> Person | None:
        """None: somebody without a role."""
        if credentials.uid in (_ROOT, os.geteuid()):
            return Person(_name(credentials.uid), Role.ADMIN)
        roles = [role for gid, role in self._roles.items() if gid in credentials.gids]
        return Person(_name(credentials.uid), max(roles)) if roles else None


def _gid(group: str) -> int:
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"[control]: there is no group {group}; create it: groupadd --system {group}") from None
    ranges = [tuple(map(int, line.split())) for line in _GID_MAP.read_text(encoding="ascii").splitlines()]
    if not any(first <= gid < first + count for first, _, count in ranges):
        raise ConfigError(
            f"[control]: the kernel hides from this service who is in {group} (PrivateUsers=yes); install the drop-in"
            " groups.conf (docs/hardening.md)"
        )
    return gid


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
