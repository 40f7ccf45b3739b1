"""Which key lists a gateway takes into use, and which it refuses while the one in use stays."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.envelope.keylist import KeyList, encode_key_list
from gateway.envelope.keys import Ed25519Signer, RecipientKey, Signer, VerifyKey
from gateway.errors import IdentityError, ReceiptError
from gateway.identity.keyring import KeyRing

NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000
XWING, X25519 = -70050, 50


def signer() -> Ed25519Signer:
    return Ed25519Signer(Ed25519PrivateKey.generate())


RECEIVER = signer()


def listed(serial: int, root: Signer, *, alg: int = XWING, recipients: int = 1, from_ms: int = 0) -> bytes:
    keys = tuple(RecipientKey(alg, os.urandom(32)).recipient for _ in range(recipients))
    receivers = (VerifyKey(RECEIVER.alg, RECEIVER.public),)
    validity = (NOW_MS + from_ms, NOW_MS + from_ms + 30 * DAY_MS)
    return encode_key_list(KeyList(serial, *validity, keys, receivers), root)


class Place:
    def __init__(self, directory: Path) -> None:
        self.root = signer()
        self.shipped, self.kept, self.public = (directory / name for name in ("shipped", "kept", "root.pub"))
        self.public.write_bytes(VerifyKey(self.root.alg, self.root.public).pem)
        self.shipped.write_bytes(listed(5, self.root))

    def open(self) -> KeyRing:
        return KeyRing.open(shipped=self.shipped, kept=self.kept, root=self.public, allow_classical=False)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_newer_list_is_used_at_once_and_after_a_restart(place: Place) -> None:
    ring = place.open()
    assert ring.offer(listed(6, place.root), now_ms=NOW_MS)
    assert ring.current.serial == 6
    assert place.open().current == ring.current


def test_the_list_in_use_is_no_news(place: Place) -> None:
    assert not place.open().offer(place.shipped.read_bytes(), now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"serial": 4}, "is older than 5"),
        ({"serial": 5}, "there are two key lists 5"),
        ({"serial": 6, "from_ms": -31 * DAY_MS}, "is not valid now"),
        ({"serial": 6, "from_ms": DAY_MS}, "is not valid now"),
        ({"serial": 6, "recipients": 0}, "one to eight recipients"),
        ({"serial": 6, "alg": X25519}, "a recipient is classical"),
    ],
)
def test_a_list_that_must_not_be_used_is_refused_and_the_one_in_use_stays(
    place: Place, change: dict[str, int], reason: str
) -> None:
    ring = place.open()
    before = ring.current
    with pytest.raises(ReceiptError, match=reason):
        ring.offer(listed(root=place.root, **change), now_ms=NOW_MS)
    assert ring.current == before
    assert place.open().current == before


def test_a_list_of_another_root_is_refused(place: Place) -> None:
    with pytest.raises(ReceiptError, match="not a key list to believe"):
        place.open().offer(listed(6, signer()), now_ms=NOW_MS)


def test_a_box_that_does_not_know_the_time_cannot_judge_validity(place: Place) -> None:
    assert place.open().offer(listed(6, place.root, from_ms=-31 * DAY_MS), now_ms=None)


def test_a_list_in_use_outlives_its_validity(place: Place) -> None:
    place.shipped.write_bytes(listed(7, place.root, from_ms=-400 * DAY_MS))
    assert place.open().recipients


def test_a_start_without_a_list_is_refused(place: Place) -> None:
    place.shipped.unlink()
    with pytest.raises(IdentityError, match="there is no key list"):
        place.open()
