"""The fleet's key list: to whom gateways seal and whose receipts they believe, signed by the offline fleet root."""

from dataclasses import dataclass
from typing import Any

from gateway.envelope import cbor, cose, layout
from gateway.envelope.keys import HPKE_X25519, Recipient, Signer, VerifyKey
from gateway.envelope.receipt import verified_payload
from gateway.errors import ReceiptError, SealError


@dataclass(frozen=True, slots=True)
class KeyList:
    """Serial numbers only grow; validity is judged when a list is accepted, against a known clock."""

    serial: int
    not_before_ms: int
    not_after_ms: int
    recipients: tuple[Recipient, ...]
    receivers: tuple[VerifyKey, ...]


def encode_key_list(key_list: KeyList, root: Signer) -> bytes:
    """COSE_Sign1 of the list."""
    payload = [
        layout.VERSION,
        key_list.serial,
        key_list.not_before_ms,
        key_list.not_after_ms,
        [[each.alg, each.kid, each.public] for each in key_list.recipients],
        [[each.alg, each.kid, each.public] for each in key_list.receivers],
    ]
    return cose.sign1(root, cbor.encode(payload), layout.KEY_LIST_AAD)


def decode_key_list(data: bytes, root: VerifyKey, *, allow_classical: bool) -> KeyList:
    """The list in `data`, signed by `root`.

    Raises `ReceiptError` if it must not be believed, names a classical recipient without `allow_classical`, or would
    leave nobody to seal to or to hear from.
    """
    try:
        payload = verified_payload(data, {root.kid: root}, layout.KEY_LIST_AAD)
        match payload:
            case [1, int(serial), int(not_before), int(not_after), list(recipients), list(receivers), *_]:
                pass
            case _:
                raise ReceiptError("not a key list, or of an unknown version")
        key_list = KeyList(
            serial,
            not_before,
            not_after,
            tuple(Recipient(alg, public) for alg, public in map(_key, recipients)),
            tuple(VerifyKey(alg, public) for alg, public in map(_key, receivers)),
        )
    except SealError as error:
        raise ReceiptError(f"not a key list to believe: {error}") from error
    if not all(map(cbor.is_uint, (serial, not_before, not_after))):
        raise ReceiptError("a key list's number is out of range")
    if not 1 <= len(recipients) <= cose.MAX_RECIPIENTS or not receivers:
        raise ReceiptError("a key list names one to eight recipients and at least one receiver")
    if not allow_classical and any(each.alg == HPKE_X25519 for each in key_list.recipients):
        raise ReceiptError("a recipient is classical; envelope.allow_classical would accept it")
    return key_list


def _key(item: Any) -> tuple[int, bytes]:  # noqa: ANN401 - any CBOR value
    match item:
        case [int(alg), bytes(kid), bytes(public), *_] if kid == layout.sha256(public)[: layout.ID_BYTES]:
            return alg, public
    raise ReceiptError("a key is [alg, kid, public key], the kid its own")
