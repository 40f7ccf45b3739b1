"""The configuration of a receiver and of its site: `config/receiver.toml` and `config/site.toml` show every key."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.config import BrokerSection, Endpoint, FilePath, LogSection, MetricsSection, Section


class ReceiverMetricsSection(MetricsSection):
    """The receiver's, beside a gateway on the same machine."""

    listen: Endpoint | Literal["off"] = "127.0.0.1:9465"


class ReceiverSection(Section):
    """What the receiver keeps and with whose keys it works."""

    state_dir: FilePath
    registry: FilePath
    recipient_keys: tuple[FilePath, ...] = Field(min_length=1)
    receipt_key: FilePath
    key_list: FilePath


class ReceiverBrokerSection(BrokerSection):
    """The receiver's way to the broker; workers that share a subscription need client ids of their own."""

    client_id: str = Field(default="receiver", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    share: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,64}$")


class JetStreamSection(Section):
    """NATS nodes to pull from; with none, bundles come by MQTT."""

    servers: tuple[Endpoint, ...] = ()
    replicas: Literal[1, 3, 5] = 3
    max_age_s: int = Field(default=604_800, ge=60)
    max_bytes: int = Field(default=32 << 30, ge=1 << 20)
    max_ack_pending: int = Field(default=16_384, ge=1)


class StoreSection(Section):
    """Which database: SQLite in `receiver.state_dir`, unless an address names PostgreSQL."""

    url: str = Field(default="sqlite", pattern=r"^(sqlite|postgres(ql)?://.+)$", repr=False)
    retention_days: int = Field(default=0, ge=0, le=36_500)
    backup_days: int = Field(default=0, ge=0, le=36_500)

    @model_validator(mode="after")
    def _can_retain(self) -> Self:
        if self.retention_days and self.url == "sqlite":
            raise ValueError("retention_days needs PostgreSQL in url; SQLite keeps everything")
        return self


class TlsSection(Section):
    """The receiver's client certificate for the broker."""

    ca: FilePath
    cert: FilePath
    key: FilePath


class IngestSection(Section):
    """Bounds of one commit and of what waits."""

    receive_maximum: int = Field(default=256, ge=1, le=65_535)
    parked_bundles: int = Field(default=4096, ge=1, le=1 << 20)
    parked_per_gateway: int = Field(default=512, ge=1, le=1 << 20)
    heartbeat_s: int = Field(default=60, ge=1, le=3600)


class ApiSection(Section):
    """The read API: mutual TLS always; who may read is said by the common names of certificates."""

    listen: Endpoint | Literal["off"] = "off"
    tls_ca: FilePath | Literal[""] = ""
    tls_cert: FilePath | Literal[""] = ""
    tls_key: FilePath | Literal[""] = ""
    viewers: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, Path, Path] | None:
        """CA of the clients, certificate, key; None: it is not served."""
        if self.listen != "off" and self.tls_ca and self.tls_cert and self.tls_key:
            return self.tls_ca, self.tls_cert, self.tls_key
        return None

    @model_validator(mode="after")
    def _nobody_reads_in(self) -> Self:
        if self.listen != "off" and self.files is None:
            raise ValueError("listen needs tls_ca, tls_cert and tls_key")
        return self


class ReceiverConfig(Section):
    """The whole of `receiver.toml`."""

    receiver: ReceiverSection
    store: StoreSection = StoreSection()
    tls: TlsSection
    broker: ReceiverBrokerSection
    jetstream: JetStreamSection = JetStreamSection()
    ingest: IngestSection = IngestSection()
    api: ApiSection = ApiSection()
    metrics: ReceiverMetricsSection = ReceiverMetricsSection()
    log: LogSection = LogSection()


class SiteSection(Section):
    """Where gateways find a site."""

    url: Annotated[str, Field(pattern=r"^https://[^/]+$")]
    endpoints: tuple[Endpoint, ...] = Field(min_length=1)


class CaSection(Section):
    """What a site's CA gives away, and for how long."""

    listen: Endpoint = "0.0.0.0:8443"
    tls_days: int = Field(default=14, ge=7, le=30)
    signer_days: int = Field(default=3650, ge=30, le=7300)
    crl_days: int = Field(default=30, ge=8, le=90)
    grace_days: int = Field(default=0, ge=0, le=365)
    passphrase_file: FilePath | Literal[""] = ""


class SiteBrokerSection(Section):
    """The broker beside the CA: told to read a new revocation list."""

    pid_file: FilePath | None = None


class SiteConfig(Section):
    """The whole of a site's `site.toml`."""

    site: SiteSection
    ca: CaSection = CaSection()
    broker: SiteBrokerSection = SiteBrokerSection()
