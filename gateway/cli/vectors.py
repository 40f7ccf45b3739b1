"""`iomt-gateway vectors`: test vectors of the wire format, for readers written with other libraries."""

import argparse
from pathlib import Path

from gateway.cli import common

FILES = {
    "v1.json": "X-Wing and Ed25519",
    "v1-es256.json": "X25519 and ES256",
    "keys.json": "a key list",
    "refused.json": "bundles that are refused",
}


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    vectors = commands.add_parser("vectors", help="write or check the wire format's test vectors")
    action = vectors.add_mutually_exclusive_group(required=True)
    action.add_argument("--new", action="store_true", help="write a new set; HPKE draws its own randomness")
    action.add_argument("--check", action="store_true", help="open every vector and compare")
    vectors.add_argument("--dir", type=Path, default=Path("docs/vectors"), metavar="DIR")
    vectors.set_defaults(command=_vectors)


def _vectors(arguments: argparse.Namespace) -> int:
    from gateway.envelope import vectors as sealed
    from gateway.receiver import vectors as received

    for name, content in FILES.items():
        path: Path = arguments.dir / name
        vectors = received if name in received.FILES else sealed
        if arguments.new:
            arguments.dir.mkdir(parents=True, exist_ok=True)
            vectors.write(path)
        else:
            vectors.check(path)
        print(f"{path}: {content}: {'written' if arguments.new else 'right'}")
    return 0
