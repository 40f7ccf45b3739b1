"""TOML in, frozen models out: validated once, at the edge; an unknown key is an error.

`config/gateway.toml` shows every key with its unit and default; the receiver's are in `gateway.receiver.config`.
"""

import os
import tomllib
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from math import isnan
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from gateway.errors import ConfigError


def _resolve(path: Path, info: ValidationInfo) -> Path:
    """Relative paths are relative to the configuration file."""
    base: Path | None = info.context
    return path if base is None else (base / path)


def _endpoint(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):  # noqa: PLR2004 - TCP's range
        raise ValueError("is not HOST:PORT")
    return value


def _on_loopback(endpoint: str) -> bool:
    host = endpoint.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _a_number(value: float) -> float:
    if isnan(value):
        raise ValueError("is not a number")
    return value


Bound = Annotated[float, AfterValidator(_a_number)]
FilePath = Annotated[Path, AfterValidator(_resolve)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]


def _not_reserved(value: str) -> str:
    if value in RESERVED:
        raise ValueError(f"is reserved: {', '.join(RESERVED)} are names of the cloud's side")
    return value


RESERVED = ("broker", "receiver", "enrolment", "site")
GatewayId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$"), AfterValidator(_not_reserved)]


class Section(BaseModel):
    """A table of a configuration file, or the whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GatewaySection(Section):
    """Who this box is and where it keeps what it must remember."""

    id: GatewayId
    state_dir: FilePath


class IdentitySection(Section):
    """Where the gateway's keys and what it trusts lie: in `identity` of the state directory, unless told otherwise."""

    ca: FilePath
    tls_cert: FilePath
    tls_key: FilePath
    signing_cert: FilePath
    signing_key: FilePath
    fleet_root: FilePath
    key_list: FilePath
    enrolment: Annotated[str, Field(pattern=r"^(https://[^/]+)?$")] = ""
    keys: Literal["file", "credential", "tpm"] = "file"
    tpm: Annotated[str, Field(pattern=r"^[a-z]+(:.+)?$")] = "device:/dev/tpmrm0"


_IDENTITY = {
    "ca": "ca.crt",
    "tls_cert": "tls.crt",
    "tls_key": "tls.key",
    "signing_cert": "sign.crt",
    "signing_key": "sign.key",
    "fleet_root": "fleet-root.pub",
    "key_list": "keys.cbor",
}


CREDENTIALS = {"tls_key": "iomt-gateway.tls.key", "signing_key": "iomt-gateway.sign.key"}
"""The names under which systemd hands over keys, where `identity.keys` is "credential"."""
TPM_KEYS = {"tls_key": "tls.tpm", "signing_key": "sign.tpm"}
"""What lets the TPM load its keys, where `identity.keys` is "tpm"."""
_CREDENTIALS_DIRECTORY = "/run/credentials/iomt-gateway.service"


class BrokerSection(Section):
    """How to reach the broker; used by both sides."""

    endpoints: tuple[Endpoint, ...] = Field(min_length=1)
    keepalive_s: int = Field(default=20, ge=5, le=3600)
    connect_timeout_s: float = Field(default=10.0, gt=0, le=120)
    backoff_max_s: float = Field(default=30.0, gt=0, le=3600)


class UplinkSection(BrokerSection):
    """The gateway's way to the cloud."""

    window: int = Field(default=64, ge=1, le=1024)
    backlog_share: float = Field(default=0.5, ge=0.05, le=0.95)
    ack_timeout_s: float = Field(default=10.0, gt=0, le=600)
    receipt_timeout_s: float = Field(default=30.0, gt=0, le=3600)
    required_stores: int = Field(default=1, ge=1, le=4)


class OutboxSection(Section):
    """How much is kept and how often it is made durable."""

    tick_ms: int = Field(default=250, ge=0, le=60_000)
    offline_tick_ms: int = Field(default=2_000, ge=0, le=60_000)
    segment_bytes: int = Field(default=4 << 20, ge=1 << 20, le=64 << 20)
    capacity_bytes: int = Field(default=1 << 30, ge=8 << 20)
    reserve_bytes: int = Field(default=64 << 20, ge=0)
    endurance_tbw: float = Field(default=30.0, gt=0)

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.capacity_bytes < 8 * self.segment_bytes:
            raise ValueError("capacity_bytes holds fewer than eight segments of segment_bytes")
        return self


class EnvelopeSection(Section):
    """How readings are sealed."""

    epoch_max_s: int = Field(default=3600, ge=1, le=86_400)
    heartbeat_s: int = Field(default=60, ge=1, le=3600)
    allow_classical: bool = False


class BleSection(Section):
    """Which radio; `virtual:PATH` reaches virtual wearables through a Unix socket (needs the `lab` extra)."""

    adapter: Annotated[str, Field(pattern=r"^(hci\d+|([0-9A-F]{2}:){5}[0-9A-F]{2}|virtual:.+|none)$")] = "hci0"
    connect_timeout_s: float = Field(default=20.0, gt=0, le=120)
    retry_max_s: float = Field(default=60.0, gt=0, le=3600)
    racp_timeout_s: float = Field(default=30.0, gt=0, le=300)
    silent_s: float = Field(default=900.0, gt=0, le=86_400)
    adapter_silent_s: float = Field(default=120.0, gt=0, le=86_400)
    reset_request: FilePath = Path("/run/iomt-gateway/adapter-reset")
    pairing_window_s: float = Field(default=120.0, gt=0, le=600)
    just_works: tuple[str, ...] = ()


class LimitsSection(Section):
    """Bounds of one metric, in its unit, in place of the shipped ones; `inf` or `-inf` for none."""

    reject_below: Bound | None = None
    reject_above: Bound | None = None
    flag_below: Bound | None = None
    flag_above: Bound | None = None
    rate_per_min: Annotated[float, Field(gt=0)] | None = None


class QualitySection(Section):
    """When a value is doubtful or void."""

    limits: dict[str, LimitsSection] = {}

    @property
    def bounds(self) -> dict[str, dict[str, float]]:
        """Those that were given, by metric name and bound."""
        return {name: limits.model_dump(exclude_none=True) for name, limits in self.limits.items()}


class ClockSection(Section):
    """Whether the system's clock is believed."""

    believe: Literal["auto", "system"] = "auto"


class MetricsSection(Section):
    """Prometheus; loopback unless told otherwise, and elsewhere only over TLS, for those whom `tls_ca` certifies."""

    listen: Endpoint | Literal["off"] = "127.0.0.1:9464"
    tls_ca: FilePath | Literal[""] = ""
    tls_cert: FilePath | Literal[""] = ""
    tls_key: FilePath | Literal[""] = ""

    @property
    def tls(self) -> tuple[Path, Path, Path] | None:
        """CA of the clients, certificate, key; None for plain HTTP."""
        if self.tls_ca and self.tls_cert and self.tls_key:
            return self.tls_ca, self.tls_cert, self.tls_key
        return None

    @model_validator(mode="after")
    def _nobody_listens_in(self) -> Self:
        if self.tls is None and (self.tls_ca or self.tls_cert or self.tls_key):
            raise ValueError("tls_ca, tls_cert and tls_key belong together")
        if self.tls is None and self.listen != "off" and not _on_loopback(self.listen):
            raise ValueError(
                "listen is not on loopback: others may ask over TLS alone, set tls_ca, tls_cert and tls_key"
            )
        return self


class ControlSection(Section):
    """Who may ask the gateway what: Unix groups; "" for none. Root and the gateway's own user may everything."""

    socket: Annotated[str, Field(pattern=r"^(/.+)?$")] = ""
    viewer_group: str = ""
    operator_group: str = ""
    admin_group: str = ""


class FirewallSection(Section):
    """Whom `firewall print` lets through beside brokers and enrolment; time servers may be networks, too."""

    dns: tuple[IPv4Address | IPv6Address, ...] = ()
    ntp: tuple[Annotated[str, Field(pattern=r"^[^\s\"]+$")], ...] = ()
    outbound: tuple[Endpoint, ...] = ()
    monitoring: tuple[IPv4Network | IPv6Network, ...] = ()
    ssh: tuple[IPv4Network | IPv6Network, ...] = ()
    ssh_port: int = Field(default=22, ge=1, le=65_535)


class LogSection(Section):
    """What is told of the work, and in which form; `auto`: to journald where it listens, JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "journal", "json", "text"] = "auto"


class GatewayConfig(Section):
    """The whole of `gateway.toml`."""

    @model_validator(mode="before")
    @classmethod
    def _where_identity_lies(cls, document: dict[str, Any]) -> dict[str, Any]:
        match document:
            case {"gateway": {"state_dir": str(state_dir)}}:
                places = {key: str(Path(state_dir, "identity", name)) for key, name in _IDENTITY.items()}
                identity = document.get("identity", {})
                rung = identity.get("keys") if isinstance(identity, dict) else None
                if rung == "credential":
                    handed = os.environ.get("CREDENTIALS_DIRECTORY", _CREDENTIALS_DIRECTORY)
                    places |= {key: str(Path(handed, name)) for key, name in CREDENTIALS.items()}
                elif rung == "tpm":
                    places |= {key: str(Path(state_dir, "identity", name)) for key, name in TPM_KEYS.items()}
                return document | {"identity": places | identity}
        return document

    gateway: GatewaySection
    identity: IdentitySection
    uplink: UplinkSection
    outbox: OutboxSection = OutboxSection()
    envelope: EnvelopeSection = EnvelopeSection()
    ble: BleSection = BleSection()
    quality: QualitySection = QualitySection()
    clock: ClockSection = ClockSection()
    control: ControlSection = ControlSection()
    metrics: MetricsSection = MetricsSection()
    firewall: FirewallSection = FirewallSection()
    log: LogSection = LogSection()


C = TypeVar("C", bound=Section)


def load(path: Path, model: type[C]) -> C:
    """Read `path` as `model`; relative paths in what a link leads to start where it leads.

    Raises `ConfigError` that names the file and every wrong key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return model.model_validate(document, context=(path.resolve() if path.is_symlink() else path).parent)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from error
