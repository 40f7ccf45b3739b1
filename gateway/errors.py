"""The error tree, by who is to blame.

Every error that this project raises on purpose is a `GatewayError`. `cause` is a short fixed word that serves as a
metric label; the message names what was wrong and, where there is one, the way out. Messages never carry readings.
"""

from typing import ClassVar


class GatewayError(Exception):
    """The root: whatever this project refuses, it refuses with one of these."""

    cause: ClassVar[str] = "internal"


class ConfigError(GatewayError):
    """A configuration file, a key or a command line is wrong; a person mends it."""

    cause = "config"


class IdentityError(GatewayError):
    """A key, certificate or key list is missing, has the wrong mode, or does not verify."""

    cause = "identity"


class EnrolmentError(IdentityError):
    """A CA refuses a request, or its answer must not be believed."""

    cause = "enrolment"


class TryLaterError(EnrolmentError):
    """A CA wants to be asked again after so many seconds (RFC 7030, 4.2.3)."""

    def __init__(self, message: str, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s


class DeviceError(GatewayError):
    """A wearable, or the radio between, is to blame."""

    cause = "device"


class DecodeError(DeviceError):
    """A characteristic's bytes break its specification."""

    cause = "decode"


class LinkError(DeviceError):
    """A Bluetooth link dropped, could not be made, or is not secure enough."""

    cause = "link"


class BondError(LinkError):
    """A wearable was paired once and one side's keys are missing now; a person decides, never the gateway."""

    cause = "bond"


class PairingError(LinkError):
    """A pairing that may not be, or that came to nothing: no window, another device, too weak, too often, a "no"."""

    cause = "pairing"


class AdapterError(LinkError):
    """The Bluetooth adapter, bluetoothd or D-Bus is missing, blocked or dead; the rest of the gateway goes on."""

    cause = "adapter"


class QuarantineError(DeviceError):
    """A wearable is not what it was, or contradicts itself; nothing is taken from it until a person decides.

    `reason` is a short fixed word.
    """

    cause = "quarantine"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ProcedureError(DeviceError):
    """A control-point procedure failed, timed out, or its answer contradicts itself."""

    cause = "procedure"


class SealError(GatewayError):
    """An envelope cannot be made, or one that was received must not be believed."""

    cause = "seal"


class MalformedError(SealError):
    """Bytes that are not the deterministic encoding of a known structure."""

    cause = "malformed"


class SignatureError(SealError):
    """A signature does not verify, or is not in its one allowed form."""

    cause = "signature"


class SignerError(SealError):
    """A signer is unknown, or signs for a gateway that is not its own."""

    cause = "signer"


class EpochHashError(SealError):
    """Epoch parts do not match the hashes that the signature covers: stripped, added or exchanged."""

    cause = "epoch-hash"


class UnknownEpochError(SealError):
    """A part needs an epoch that has not arrived yet."""

    cause = "unknown-epoch"


class DecryptError(SealError):
    """A part does not open, or its epoch secret does not match its commitment."""

    cause = "decrypt"


class OutboxError(GatewayError):
    """The outbox cannot keep what it was given."""

    cause = "outbox"


class OutboxLockedError(OutboxError):
    """Another process holds the outbox."""

    cause = "outbox-locked"


class OutboxFullError(OutboxError):
    """There is no room and nothing may be forgotten.

    `short_of` says of what: "capacity" as configured, or "disk".
    """

    cause = "outbox-full"

    def __init__(self, message: str, *, short_of: str = "disk") -> None:
        super().__init__(message)
        self.short_of = short_of


class OutboxWriteError(OutboxError):
    """The file system refused a write or a sync; what was in flight is not durable."""

    cause = "outbox-write"


class OutboxDamagedError(OutboxError):
    """A bundle that was durable cannot be read any more; the others can."""

    cause = "outbox-damaged"


class UplinkError(GatewayError):
    """The broker, or the network to it, is to blame."""

    cause = "uplink"


class BrokerNotFoundError(UplinkError):
    """The broker's name has no address: DNS failed, or the name is wrong."""

    cause = "dns"


class BrokerUnreachableError(UplinkError):
    """No connection came about in time: no route, nothing listens, or nobody answers."""

    cause = "unreachable"


class TlsRefusedError(UplinkError):
    """One side's TLS refused the other: a certificate, a name or a version."""

    cause = "tls"


class ServerRevokedError(TlsRefusedError):
    """The server shows a certificate that its CA has revoked: somebody else may have its key."""


class CertificateTimeError(TlsRefusedError):
    """A certificate is not valid at this time, or a clock is wrong."""

    cause = "tls-time"


class ConnectionRefusedByBrokerError(UplinkError):
    """The broker refused the connection, a subscription, or a publish for now."""

    cause = "refused"


class ConnectionLostError(UplinkError):
    """The connection ended or fell silent."""

    cause = "lost"


class ClosedByBrokerError(ConnectionLostError):
    """The broker closed the connection and gave no reason: it stopped, or another client took the connection over."""

    cause = "closed"


class SessionTakenOverError(ConnectionLostError):
    """Another client with the same certificate connected: two boxes share one identity."""

    cause = "taken-over"


class ReceiptError(GatewayError):
    """A receipt or key list from the cloud must not be believed."""

    cause = "receipt"


class AnotherStoreError(ReceiptError):
    """A receipt of a store beside those that count: a second receiver, or a database that was replaced."""

    cause = "another-store"


class ControlError(GatewayError):
    """The control API refuses a call, or does not answer.

    `reason` is a short fixed word.
    """

    cause = "control"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoAnswerError(ControlError):
    """Nobody answers on the control socket, or not to this user: it is down, stuck, or elsewhere; a person mends it."""

    def __init__(self, message: str) -> None:
        super().__init__("no-answer", message)


class AuditError(GatewayError):
    """The audit log is not what it was, or cannot be written: then nothing is done that belongs in it."""

    cause = "audit"


class StoreError(GatewayError):
    """The receiver's database failed or holds something unexpected."""

    cause = "store"


class StoreChangedError(StoreError):
    """Another receiver wrote to the store between load and commit: load and decide again."""

    cause = "store-changed"


class ExportError(GatewayError):
    """What readings were exported to did not take them."""

    cause = "export"
