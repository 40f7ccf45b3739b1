"""`iomt-gateway identity`: what this box's keys are, where they lie, and what that protects against."""

import argparse
import datetime as dt
import json
from pathlib import Path

from cryptography import x509

from gateway.cli import common
from gateway.config import GatewayConfig, load
from gateway.errors import ConfigError
from gateway.identity.files import load_certificate, verify_key
from gateway.identity.rung import ALWAYS, CREDSTORE, PROTECTS, open_key, seal
from gateway.identity.successor import Successor


def add_parser(commands: common.Subparsers) -> None:
    """Add the commands."""
    actions = commands.add_parser("identity", help="this gateway's keys and certificates").add_subparsers(
        metavar="ACTION", required=True
    )
    show = actions.add_parser("show", help="what they are, where they lie, and what that protects against")
    show.add_argument("--json", action="store_true", help="one line of JSON")
    show.set_defaults(command=_show)
    rotate = actions.add_parser("rotate-signer", help="make the next signing key; it signs after the next restart")
    rotate.set_defaults(command=_rotate)
    sealing = actions.add_parser("seal-keys", help="encrypt the keys for systemd, and erase the files")
    sealing.add_argument(
        "--with-key", choices=["auto", "host", "tpm2", "host+tpm2"], default="auto", help="%(default)s"
    )
    sealing.add_argument("--credstore", type=Path, default=CREDSTORE, metavar="DIR", help="%(default)s")
    sealing.set_defaults(command=_seal)
    for parser in (show, rotate, sealing):
        parser.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)


def _show(arguments: argparse.Namespace) -> int:
    config = load(arguments.config, GatewayConfig)
    identity = config.identity
    tls, signing = (
        x509.load_pem_x509_certificates(load_certificate(path))[0]
        for path in (identity.tls_cert, identity.signing_cert)
    )
    signer = verify_key(open_key(identity, identity.signing_key).public_key())
    open_key(identity, identity.tls_key)
    following = Successor(identity).public
    facts: dict[str, object] = {
        "gateway": config.gateway.id,
        "tls_key": str(identity.tls_key),
        "tls_certificate_until": tls.not_valid_after_utc.isoformat(),
        "tls_certificate_expired": tls.not_valid_after_utc < dt.datetime.now(dt.UTC),
        "signing_key": str(identity.signing_key),
        "signer": signer.kid.hex(),
        "signing_certificate_until": signing.not_valid_after_utc.isoformat(),
        "next_signer": None if following is None else following.kid.hex(),
        "renewed_at": identity.enrolment or "nowhere: a person renews",
        "keys": identity.keys,
    }
    if arguments.json:
        print(json.dumps(facts))
        return 0
    common.show(facts)
    print("\n".join(("", *PROTECTS[identity.keys], ALWAYS)))
    return 0


def _rotate(arguments: argparse.Namespace) -> int:
    config = load(arguments.config, GatewayConfig)
    try:
        key = Successor(config.identity).prepare(config.gateway.id)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written: {error.strerror}") from error
    print(f"the next signer is {key.kid.hex()}; the present one announces it in its last bundle")
    print("it signs after the next orderly restart: systemctl restart iomt-gateway")
    return 0


def _seal(arguments: argparse.Namespace) -> int:
    config = load(arguments.config, GatewayConfig)
    if config.identity.keys != "file":
        raise ConfigError("identity.keys: the keys are in no files that could be encrypted")
    try:
        arguments.credstore.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = seal(config, with_key=arguments.with_key, credstore=arguments.credstore)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written: {error.strerror}") from error
    print("Both keys are encrypted, and their plain text is erased. Next:")
    print(f'1. in [identity] of {arguments.config}: keys = "credential"')
    if arguments.credstore != CREDSTORE:
        print("   systemctl edit iomt-gateway, and write:\n   [Service]")
        for path in made:
            print(f"   LoadCredentialEncrypted={path.name}:{path}")
    print("2. systemctl restart iomt-gateway")
    return 0
