"""A process that seals fifty readings with secrets that can be drawn again, says what it drew, and stays."""

import hashlib
import json
import sys
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.envelope.keys import Ed25519Signer, RecipientKey
from gateway.envelope.seal import ChainWriter
from gateway.model import Batch, Record

PARTS = 50
RECIPIENT = RecipientKey(-70050, b"r" * 32)


class Entropy:
    """Draws that another process can repeat."""

    def __init__(self) -> None:
        self.draws = 0

    def __call__(self, size: int) -> bytes:
        self.draws += 1
        return draw(self.draws, size)


def draw(number: int, size: int) -> bytes:
    return hashlib.shake_256(f"residue/{number}".encode()).digest(size)


def main() -> None:
    entropy = Entropy()
    writer = ChainWriter(
        gateway="gw-001",
        chain=b"c" * 16,
        signer=Ed25519Signer(Ed25519PrivateKey.generate()),
        recipients=[RECIPIENT.recipient],
        predecessor=None,
        random=entropy,
    )
    first = b""
    for number in range(PARTS):
        record = Record(device=f"RESIDUE-{number:04}", metric=1, mantissa=number, exponent=0, time_ms=number)
        bundle, _ = writer.seal([Batch(bytes(16), (record,))], now_ms=number * 250)
        first = first or bundle.data
    sys.stdout.write(json.dumps({"draws": entropy.draws, "first": first.hex()}) + "\n")
    sys.stdout.flush()
    time.sleep(60)


if __name__ == "__main__":
    main()
