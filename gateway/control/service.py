"""The daemon's control API, put together: it listens, writes its audit log, and tells the cloud of that."""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from gateway.ble.bluetooth import Bluetooth
from gateway.ble.inventory import Inventory
from gateway.clock.system import Clock
from gateway.config import GatewayConfig
from gateway.control import api
from gateway.control.acts import Acts
from gateway.control.audit import FILE, AuditLog
from gateway.control.feed import Feed
from gateway.control.peers import Roles
from gateway.control.server import Server
from gateway.model import Event, Reading
from gateway.observe.http import Page, serve_requests
from gateway.outbox.outbox import Outbox

_log = logging.getLogger(__name__)


class Control:
    """`tell` takes events of the gateway's own stream: code and details.

    Construction raises `ConfigError` for a group that does not exist, `AuditError` for a log that cannot be read.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        status: Callable[[], api.Status],
        bluetooth: Callable[[], Bluetooth | None],
        inventory: Inventory,
        outbox: Outbox,
        clock: Clock,
        tell: Callable[..., None],
    ) -> None:
        self.events = Feed[Event]()
        self.readings = Feed[Reading]()
        self._config = config
        self._clock = clock
        self._tell = tell
        self._roles = Roles(config.control)
        self._audit = AuditLog.open(config.gateway.state_dir / FILE)
        self._acts = Acts(
            config,
            status=status,
            bluetooth=bluetooth,
            inventory=inventory,
            outbox=outbox,
            events=self.events,
            readings=self.readings,
        )

    def serve(self, metrics: Page) -> AbstractAsyncContextManager[None]:
        """Answer calls while entered. Raises `ConfigError` if the socket cannot be had."""
        server = Server(
            self._acts, self._roles, self._audit, metrics, utc_ms=self._clock.utc_ms, on_head=self._tell_head
        )
        return serve_requests(server.answer, listen=api.socket_of(self._config), mode=self._roles.socket_mode)

    def tell_log(self) -> None:
        """Say at the start what the audit log has come to, and whether it is not what it was."""
        if self._audit.count:
            self._tell_head()
        if self._audit.fault:
            _log.error("%s", self._audit.fault)
            self._tell("security", "audit", self._audit.fault)

    def _tell_head(self) -> None:
        self._tell("audit-head", self._audit.head, self._audit.count)
