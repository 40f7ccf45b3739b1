"""The cloud's own keys: those that open what gateways seal, and the list that tells gateways of them.

A recipient key is the file `recipient-N.key`; the list is `keys.cbor`, signed by the fleet root, whose key is offline.
"""

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.durable import give_to_owner, shred, write_durably, write_once
from gateway.envelope.keylist import KeyList, decode_key_list, encode_key_list
from gateway.envelope.keys import Recipient, RecipientKey, Signer, VerifyKey, signer_for
from gateway.errors import ConfigError, IdentityError, ReceiptError
from gateway.identity.files import XWING, load_private_key, load_recipient_key, load_verify_key

_DAY_MS = 86_400_000
_LIST_DAYS = 397
"""How long a key list may be taken into use; the one in use stays in use."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One recipient key and where it lies."""

    path: Path
    key: RecipientKey


@dataclass(frozen=True, slots=True)
class Fleet:
    """The keys in a receiver's directory and the fleet root's in another. Raises `IdentityError`, OSError."""

    receiver: Path
    offline: Path

    def files(self) -> list[KeyFile]:
        """Every recipient key, the newest last."""
        paths = sorted(self.receiver.glob("recipient-*.key"), key=_number)
        return [KeyFile(path, load_recipient_key(path)) for path in paths]

    def key_list(self) -> KeyList:
        """The list that gateways are told."""
        path = self.receiver / "keys.cbor"
        root = load_verify_key(self.receiver / "fleet-root.pub")
        try:
            return decode_key_list(path.read_bytes(), root, allow_classical=True)
        except (OSError, ReceiptError) as error:
            raise IdentityError(f"{path}: is not this fleet's key list: {error}") from error

    def new(self) -> KeyFile:
        """Make a key. The receiver opens with it at once; gateways learn of it by `rotate`."""
        number = 1 + max((_number(each.path) for each in self.files()), default=0)
        path = self.receiver / f"recipient-{number}.key"
        key, line = new_recipient_key()
        write_once(path, line)
        give_to_owner(path)
        return KeyFile(path, key)

    def rotate(self, *, passphrase: bytes | None, now_ms: int) -> KeyList:
        """Tell gateways to seal to the newest key alone; it is made if the newest is in the list already."""
        listed = self.key_list()
        files = self.files()
        known = {each.kid for each in listed.recipients}
        newest = files[-1] if files and files[-1].key.kid not in known else self.new()
        root = signer_for(load_private_key(self.offline / "fleet-root.key", passphrase))
        if root.kid != load_verify_key(self.receiver / "fleet-root.pub").kid:
            raise IdentityError(f"{self.offline / 'fleet-root.key'}: is not this fleet's root")
        data = sign_key_list(listed.serial + 1, (newest.key.recipient,), listed.receivers, root, now_ms=now_ms)
        path = self.receiver / "keys.cbor"
        write_durably(path, data)
        give_to_owner(path)
        return self.key_list()

    def destroy(self, kid: bytes) -> Path:
        """Delete a key: what is sealed to it alone never opens again. Raises `ConfigError` while gateways use it."""
        found = next((each for each in self.files() if each.key.kid == kid), None)
        if found is None:
            raise ConfigError(f"{kid.hex()}: there is no such recipient key")
        if kid in {each.kid for each in self.key_list().recipients}:
            raise ConfigError(f"{kid.hex()}: gateways still seal to it; first: iomt-receiver keys rotate")
        shred(found.path.rename(found.path.with_suffix(".destroyed")))  # a receiver that looks now reads no half of it
        return found.path


class RecipientKeys(Mapping[bytes, RecipientKey]):
    """The recipient keys that paths or patterns (`recipient-*.key`) name, by kid; files may come and go."""

    def __init__(self, patterns: Sequence[Path]) -> None:
        self._patterns = patterns
        self._seen: dict[Path, tuple[int, int]] = {}
        self._keys: Mapping[bytes, RecipientKey] = {}
        self._looked_s = 0.0
        self.refresh(every_s=0)

    def __getitem__(self, kid: bytes) -> RecipientKey:
        return self._keys[kid]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def refresh(self, *, every_s: float = 1.0) -> None:
        """Read what has changed, looking at most so often. Raises `IdentityError`, also if no key is left."""
        now_s = time.monotonic()
        if now_s < self._looked_s + every_s:
            return
        self._looked_s = now_s
        paths = [path for pattern in self._patterns for path in sorted(pattern.parent.glob(pattern.name))]
        seen = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths}
        if not paths:
            raise IdentityError(f"{', '.join(map(str, self._patterns))}: there is no recipient key")
        if seen == self._seen:
            return
        keys = map(load_recipient_key, paths)
        self._keys = {key.kid: key for key in keys}
        self._seen = seen


def new_recipient_key() -> tuple[RecipientKey, bytes]:
    """A fresh X-Wing key, and the line that a file keeps of it."""
    seed = os.urandom(32)
    return RecipientKey(XWING, seed), f"xwing:{seed.hex()}\n".encode()


def sign_key_list(
    serial: int, recipients: tuple[Recipient, ...], receivers: tuple[VerifyKey, ...], root: Signer, *, now_ms: int
) -> bytes:
    """The fleet's key list, valid from yesterday on: clocks differ."""
    key_list = KeyList(
        serial=serial,
        not_before_ms=now_ms - _DAY_MS,
        not_after_ms=now_ms + _LIST_DAYS * _DAY_MS,
        recipients=recipients,
        receivers=receivers,
    )
    return encode_key_list(key_list, root)


def _number(path: Path) -> int:
    found = re.fullmatch(r"recipient-(\d+)", path.stem)
    return int(found[1]) if found else 0
