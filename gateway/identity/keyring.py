"""The fleet's key list in use: to whom the gateway seals and whose receipts it believes.

A list is accepted if the fleet root signed it and its serial is higher than the one in use; it is made durable before
it is used. Validity is judged once, at acceptance: a long outage never stops sealing (`docs/format.md`, "Key list").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.durable import write_durably
from gateway.envelope.keylist import KeyList, decode_key_list
from gateway.envelope.keys import Recipient, VerifyKey
from gateway.errors import IdentityError, ReceiptError
from gateway.identity.files import load_verify_key


@dataclass(slots=True)
class KeyRing:
    """The list in use, and where it is kept."""

    _root: VerifyKey
    _kept: Path
    _allow_classical: bool
    current: KeyList

    @classmethod
    def open(cls, *, shipped: Path, kept: Path, root: Path, allow_classical: bool) -> "KeyRing":
        """Take the newer of the list that came with the configuration and the one kept since.

        Raises `IdentityError` if neither can be believed.
        """
        key = load_verify_key(root)
        lists = []
        for path in (shipped, kept):
            try:
                lists.append(decode_key_list(path.read_bytes(), key, allow_classical=allow_classical))
            except FileNotFoundError:
                continue
            except (OSError, ReceiptError) as error:
                raise IdentityError(f"{path}: is not a key list of this fleet: {error}") from error
        if not lists:
            raise IdentityError(f"{shipped}: there is no key list; without recipients nothing can be sealed")
        return cls(key, kept, allow_classical, max(lists, key=lambda each: each.serial))

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """Everyone to whom epochs are sealed."""
        return self.current.recipients

    @property
    def receivers(self) -> Mapping[bytes, VerifyKey]:
        """Whose receipts are believed, by kid."""
        return {key.kid: key for key in self.current.receivers}

    def offer(self, data: bytes, *, now_ms: int | None) -> bool:
        """Take a list that arrived; True if it is now in use. If the time is not known (None), any validity does.

        Raises `ReceiptError` if it must not be believed, or is older; the one in use is no news.
        """
        offered = decode_key_list(data, self._root, allow_classical=self._allow_classical)
        if offered.serial < self.current.serial:
            raise ReceiptError(f"key list {offered.serial} is older than {self.current.serial}, which is in use")
        if offered.serial == self.current.serial:
            if offered != self.current:
                raise ReceiptError(f"there are two key lists {offered.serial}; the first one stays in use")
            return False
        if now_ms is not None and not offered.not_before_ms <= now_ms < offered.not_after_ms:
            raise ReceiptError(f"key list {offered.serial} is not valid now")
        try:
            write_durably(self._kept, data)
        except OSError as error:
            raise ReceiptError(f"key list {offered.serial} cannot be kept: {error.strerror}") from error
        self.current = offered
        return True
