"""`iomt-gateway wipe`: take this gateway out of service."""

import argparse
import json
import time
from pathlib import Path

from gateway.cli import common
from gateway.config import GatewayConfig, load
from gateway.durable import write_durably
from gateway.envelope.keys import signer_for
from gateway.errors import ConfigError
from gateway.identity.erasure import Erasure, encode_erasure, erase, secrets_of
from gateway.identity.rung import CREDSTORE, end_keys, open_key
from gateway.model import Lane
from gateway.outbox.outbox import Outbox


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    wipe = commands.add_parser("wipe", help="erase this gateway's keys and data for good, and say so, signed")
    wipe.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    wipe.add_argument("--certificate", type=Path, metavar="FILE", help="the signed certificate (GATEWAY-erasure.cose)")
    wipe.add_argument("--discard-backlog", action="store_true", help="erase also what no receipt covers")
    wipe.add_argument("--yes", action="store_true", help="really")
    wipe.add_argument("--json", action="store_true", help="one line of JSON")
    wipe.set_defaults(command=_wipe)


def _wipe(arguments: argparse.Namespace) -> int:
    config = load(arguments.config, GatewayConfig)
    gateway, state_dir = config.gateway.id, config.gateway.state_dir
    path = (arguments.certificate or Path(f"{gateway}-erasure.cose")).absolute()
    if path.is_relative_to(state_dir.absolute()):
        raise ConfigError(f"{path}: lies in what will be erased; name another place with --certificate")
    signer = signer_for(open_key(config.identity, config.identity.signing_key))
    erasure = _end(config)
    if erasure.discarded and not arguments.discard_backlog:
        raise ConfigError(
            f"{erasure.discarded} bundles wait for a receipt: let the gateway send them (iomt-gateway run), or give"
            " --discard-backlog to lose them"
        )
    if not arguments.yes:
        raise ConfigError(f"{gateway}: its keys, bonds and outbox would be erased for good; say --yes")
    try:
        write_durably(path, encode_erasure(erasure, signer))
        end_keys(config.identity)
        erase(secrets_of(config.identity, state_dir, CREDSTORE), state_dir)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be erased or written: {error.strerror}; repeat") from error
    facts = {"gateway": gateway, "certificate": str(path), "discarded_bundles": erasure.discarded}
    if arguments.json:
        print(json.dumps(facts))
    else:
        print(f"{gateway}: erased; {erasure.discarded} bundles were never receipted. {path} says so, signed.")
        print(f"On the site: iomt-receiver ca revoke DIR {gateway}")
    return 0


def _end(config: GatewayConfig) -> Erasure:
    """Where the gateway's chains end, and what no receipt covers. Raises `OutboxLockedError` while it runs."""
    outbox = Outbox.open(
        config.gateway.state_dir / "outbox",
        gateway=config.gateway.id,
        segment_bytes=config.outbox.segment_bytes,
        capacity_bytes=config.outbox.capacity_bytes,
    )
    try:
        heads = tuple(head for head in map(outbox.head, Lane) if head is not None)
        return Erasure(config.gateway.id, time.time_ns() // 1_000_000, heads, outbox.stats().bundles)
    finally:
        outbox.close()
