"""`iomt-receiver erased`: what `iomt-gateway wipe` left behind, checked and kept."""

import argparse
import datetime as dt
import json
from contextlib import closing
from pathlib import Path

from gateway.cli import common
from gateway.config import load
from gateway.durable import write_once
from gateway.errors import ConfigError
from gateway.receiver.config import ReceiverConfig


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    erased = commands.add_parser("erased", help="check a gateway's certificate of erasure, and keep it")
    erased.add_argument("certificate", type=Path, metavar="FILE", help="as `iomt-gateway wipe` wrote it")
    erased.add_argument("--config", type=Path, default=common.RECEIVER_CONFIG, metavar="FILE", help=common.DEFAULT)
    erased.add_argument("--json", action="store_true", help="one line of JSON")
    erased.set_defaults(command=_erased)


def _erased(arguments: argparse.Namespace) -> int:
    from gateway.receiver.decommission import verify
    from gateway.receiver.registry import Registry
    from gateway.receiver.stores import open_store

    config = load(arguments.config, ReceiverConfig)
    try:
        data = arguments.certificate.read_bytes()
        with closing(open_store(config)) as store:
            found = verify(data, Registry(config.receiver.registry).everyone(), store)
        erasure = found.erasure
        kept = config.receiver.state_dir / "erasures" / f"{erasure.gateway}-{erasure.time_ms}.cose"
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        write_once(kept, data)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read or written: {error.strerror}") from error
    heads = [f"{head.chain.hex()}:{head.no} {state}" for head, state in found.heads]
    facts: dict[str, object] = {
        "gateway": erasure.gateway,
        "erased_at": dt.datetime.fromtimestamp(erasure.time_ms / 1000, dt.UTC).isoformat(timespec="seconds"),
        "signer": found.signer.hex(),
        "signer_revoked": found.revoked,
        "discarded_bundles": erasure.discarded,
        "last_bundles": heads,
        "kept": str(kept),
    }
    if arguments.json:
        print(json.dumps(facts))
    else:
        common.show(facts | {"last_bundles": ", ".join(heads) or "none: it never sealed anything"})
        print(_advice(found.contradicted, found.revoked, erasure.gateway))
    return 1 if found.contradicted else 0


def _advice(contradicted: bool, revoked: bool, gateway: str) -> str:  # noqa: FBT001 - two facts
    if contradicted:
        return "The store has bundles that the certificate does not know of: somebody signed after it, or it lies."
    return "It is revoked already." if revoked else f"Next: iomt-receiver ca revoke DIR {gateway}"
