"""`iomt-gateway enrol`: from a one-time code to a gateway that runs."""

import argparse
import datetime as dt
import json
import sys
import tomllib
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from pathlib import Path

from cryptography import x509

from gateway import firewall
from gateway.cli import common
from gateway.cli.firewall import lookup
from gateway.config import GatewayConfig, load
from gateway.durable import write_readable
from gateway.envelope.layout import GATEWAY_ID
from gateway.errors import ConfigError, EnrolmentError
from gateway.identity.chain import fingerprint
from gateway.identity.enrolment import Enrolment

_STATE_DIR = Path("/var/lib/iomt-gateway")


def add_parser(commands: common.Subparsers) -> None:
    """Add the command."""
    enrol = commands.add_parser(
        "enrol", help="make this box a gateway of a site; done again, it renews what the site gave it"
    )
    enrol.add_argument("--url", required=True, help="the site's enrolment server, https://HOST:PORT")
    enrol.add_argument("--otp", required=True, metavar="CODE", help="the one-time code, GATEWAY:CODE")
    enrol.add_argument("--ca-fingerprint", metavar="F", help="SHA-256 of the site's root; else a person is asked")
    enrol.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    enrol.add_argument(
        "--state-dir", type=Path, default=_STATE_DIR, metavar="DIR", help="if FILE has to be made (%(default)s)"
    )
    enrol.add_argument("--keys", choices=["file", "tpm"], help="where they are made, if FILE has to be (file)")
    enrol.add_argument("--json", action="store_true", help="the outcome as one line of JSON")
    enrol.set_defaults(command=_enrol)


def _enrol(arguments: argparse.Namespace) -> int:
    gateway, colon, code = arguments.otp.partition(":")
    if not (colon and code and GATEWAY_ID.fullmatch(gateway)):
        raise ConfigError("--otp: is not GATEWAY:CODE; copy the whole command that the site printed")
    path: Path = arguments.config
    url = arguments.url.rstrip("/")
    text = partial(_text, gateway, arguments.state_dir, url, arguments.keys or "file")
    config = load(path, GatewayConfig) if path.exists() else _planned(path, text)
    if config.gateway.id != gateway:
        raise ConfigError(f"{path}: gateway.id is {config.gateway.id}, but the code is for {gateway}")
    if arguments.keys not in {None, config.identity.keys}:
        raise ConfigError(f"--keys: identity.keys of {path} says {config.identity.keys}; change it there")
    steps: list[str] = []

    def tell(line: str) -> None:
        steps.append(line)
        if not arguments.json:
            print(f"  {line}", flush=True)

    enrolment = Enrolment(
        identity=config.identity,
        gateway=gateway,
        url=url,
        allow_classical=config.envelope.allow_classical,
        now=dt.datetime.now(dt.UTC),
        tell=tell,
    )
    try:
        config.gateway.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = _content(config.identity.fleet_root)
        told = enrolment.run(
            arguments.otp, trust=lambda roots: _chosen(roots, arguments.ca_fingerprint, ask=not arguments.json)
        )
        if before not in {b"", _content(config.identity.fleet_root)}:
            (config.gateway.state_dir / "keys.cbor").unlink(missing_ok=True)  # kept of another fleet
        if not path.exists():
            write_readable(path, text(told.endpoints).encode())
            tell(f"{path}: written")
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written: {error.strerror}") from error
    advice = _advice(load(path, GatewayConfig), url, told.endpoints)
    if arguments.json:
        print(json.dumps({"gateway": gateway, "config": str(path), "steps": steps, "mend": advice}))
    else:
        print("\n".join([f"{gateway} is enrolled.", *advice, f"Next: {_next(path)}"]))
    return 0


def _chosen(roots: Sequence[x509.Certificate], wanted: str | None, *, ask: bool) -> list[x509.Certificate]:
    """The root that a person vouches for. Raises `EnrolmentError` if there is none."""
    if wanted is not None:
        plain = wanted.lower().replace(":", "")
        if found := [each for each in roots if fingerprint(each) == plain]:
            return found
        told = ", ".join(map(fingerprint, roots)) or "none"
        raise EnrolmentError(f"--ca-fingerprint: the server is of another site; its roots: {told}")
    if not roots:
        raise EnrolmentError("the server offers no root certificate")
    newest = roots[-1]
    if not (ask and sys.stdin.isatty()):
        raise EnrolmentError(
            f"--ca-fingerprint is missing; if the site's own screen shows the same, give {fingerprint(newest)}"
        )
    print(f"The site's root has the fingerprint {fingerprint(newest)}")
    if input("Does the site's own screen show the same? [yes/no] ").strip().lower() != "yes":
        raise EnrolmentError("not confirmed; nothing was sent")
    return [newest]


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _text(gateway: str, state_dir: Path, url: str, keys: str, endpoints: Sequence[str]) -> str:
    """The shipped configuration, made to fit this gateway."""
    text = resources.files("config").joinpath("gateway.toml").read_text(encoding="utf-8")
    for shipped, fitting in {
        'id = "gw-001"': f"id = {json.dumps(gateway)}",
        f'state_dir = "{_STATE_DIR}"': f"state_dir = {json.dumps(str(state_dir.absolute()))}",
        '# enrolment = ""': f"enrolment = {json.dumps(url)}",
        '# keys = "file"': f"keys = {json.dumps(keys)}",
        'endpoints = ["localhost:8883"]': f"endpoints = {json.dumps(list(endpoints))}",
    }.items():
        text = text.replace(shipped, fitting, 1)
    return text


def _planned(path: Path, text: Callable[[Sequence[str]], str]) -> GatewayConfig:
    """What the configuration will say, but for the brokers, which the site names."""
    document = tomllib.loads(text(["localhost:8883"]))
    return GatewayConfig.model_validate(document, context=path.parent)


def _next(path: Path) -> str:
    """What starts the gateway: the package's service, or the program by hand."""
    if path == common.GATEWAY_CONFIG and (common.UNITS / "iomt-gateway.service").exists():
        return "systemctl start iomt-gateway"
    return f"iomt-gateway run --config {path}"


def _advice(config: GatewayConfig, url: str, endpoints: Sequence[str]) -> list[str]:
    """Where a configuration that existed differs from what the site says; a person decides."""
    advice = []
    if tuple(config.uplink.endpoints) != tuple(endpoints):
        advice.append(f"The site names other brokers; in [uplink] write: endpoints = {json.dumps(list(endpoints))}")
    if config.identity.enrolment != url:
        advice.append(f"Certificates would not be renewed; in [identity] write: enrolment = {json.dumps(url)}")
    try:
        far = firewall.beyond_unit(firewall.outbound(config, ()), lookup)
    except ConfigError as error:
        advice.append(f"{str(error).partition(';')[0]}: does DNS answer, and is the name right?")
        far = ()
    if far:
        advice.append(
            f"{', '.join(far)} is in no private network, where the service's unit keeps it; let it reach that:\n"
            "  mkdir -p /etc/systemd/system/iomt-gateway.service.d\n"
            "  iomt-gateway firewall print --unit >/etc/systemd/system/iomt-gateway.service.d/addresses.conf\n"
            "  systemctl daemon-reload"
        )
    return advice
