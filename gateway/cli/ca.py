"""`iomt-receiver ca`: the site's small CA."""

import argparse
import asyncio
import datetime as dt
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from gateway.cli import common, site
from gateway.config import RESERVED
from gateway.envelope.layout import GATEWAY_ID
from gateway.errors import ConfigError
from gateway.identity.chain import fingerprint
from gateway.observe import log
from gateway.receiver.ca import serve
from gateway.receiver.ca.evict import evict
from gateway.receiver.registry import Registry
from gateway.receiver.site import Site, new_generation, publish

_YEAR_DAYS = 365
_YEAR_HOURS = 24 * _YEAR_DAYS


def add_parser(commands: common.Subparsers) -> None:
    """Add the commands."""
    ca = commands.add_parser("ca", help="certificates of gateways: the site's small CA").add_subparsers(
        metavar="ACTION", required=True
    )
    init = ca.add_parser("init", help="make a CA and a broker's configuration alone, without a receiver")
    site.add_site_arguments(init)
    init.set_defaults(command=_init)
    _add(ca, "serve", "run the enrolment server (EST, RFC 7030) in the foreground", _serve)
    otp = _add(ca, "otp", "make a one-time code for a gateway; an older one of its dies", _otp)
    otp.add_argument("gateway", metavar="GATEWAY")
    otp.add_argument(
        "--hours", type=_between(0.1, _YEAR_HOURS), default=site.CODE_HOURS, help="how long it is good (%(default)g)"
    )
    revoke = _add(ca, "revoke", "revoke every certificate and the code of a gateway, at once", _revoke)
    revoke.add_argument("gateway", metavar="GATEWAY")
    revoke.add_argument("--yes", action="store_true", help="really, though it is one of the site's own servers")
    _add(ca, "crl", "publish fresh revocation lists; the server does so every day", _crl)
    rollover = _add(ca, "rollover", "make the next root and issuing certificate", _rollover)
    rollover.add_argument(
        "--days",
        type=_between(0, _YEAR_DAYS),
        default=31.0,
        help="after which it issues; until then it is only made known (%(default)g)",
    )
    site.add_passphrase_argument(rollover)
    listing = _add(ca, "list", "every certificate: whose, until when, and whether revoked", _list)
    listing.add_argument("--json", action="store_true", help="one line of JSON each")


def _add(actions: common.Subparsers, name: str, text: str, command: common.Command) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text)
    parser.add_argument("directory", type=Path, metavar="DIR", help="the site's directory")
    parser.set_defaults(command=command)
    return parser


def _between(least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text}: not {least:g} to {most:g}")
        return value

    return number


def _init(arguments: argparse.Namespace) -> int:
    made = site.make(arguments, with_receiver=False)
    print(f"{made.root}: CA and broker configuration are made; next: iomt-receiver ca serve {made.root}")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    log.configure("info", "auto")
    place = Site(arguments.directory)
    asyncio.run(serve.serve(place, site.unlocked(place)))
    return 0


def _otp(arguments: argparse.Namespace) -> int:
    print(site.enrol_command(Site(arguments.directory), arguments.gateway, hours=arguments.hours))
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    place, gateway = Site(arguments.directory), arguments.gateway
    if not arguments.yes and (gateway in RESERVED or not GATEWAY_ID.fullmatch(gateway)):
        raise ConfigError(
            f"{gateway}: is no gateway, but a server of the site's own; it serves nobody until it has another"
            " certificate (docs/incident.md); say --yes"
        )
    registry = place.receiver / "registry.json"
    signers = Registry(registry).revoke(gateway) if registry.exists() else []
    with closing(site.unlocked(place)) as authority:
        if not signers and not authority.knows(gateway):
            raise ConfigError(f"{gateway}: has no certificate and no code that could be revoked")
        serials = authority.revoke(gateway, now=_now())
        publish(place, authority, now=_now())
        unreached = asyncio.run(evict(authority, gateway, place.config().site.endpoints, place.ca / "ca.crt"))
    revoked = ", ".join(serials) or "none new"
    print(f"{gateway}: its code is dead, its certificates are revoked ({revoked}), the list is published")
    if signers:
        print(f"{gateway}: signers {', '.join(map(bytes.hex, signers))} count no more")
    for reason in unreached:
        print(f"{gateway}: a connection that it has may live on; restart the broker: {reason}")
    return 0


def _crl(arguments: argparse.Namespace) -> int:
    place = Site(arguments.directory)
    with closing(site.unlocked(place)) as authority:
        publish(place, authority, now=_now())
    print(f"{place.broker / 'ca.crl'}: good for {place.config().ca.crl_days} days")
    return 0


def _rollover(arguments: argparse.Namespace) -> int:
    place = Site(arguments.directory)
    now = _now()
    with closing(site.unlocked(place)) as authority:
        made = new_generation(
            place,
            authority,
            passphrase=site.passphrase(arguments),
            now=now,
            active=now + dt.timedelta(days=arguments.days),
        )
        publish(place, authority, now=now)
    print(f"generation {made.no} is made known now and issues from {made.active:%Y-%m-%d} on")
    print(f"fingerprint of its root: {fingerprint(made.root)}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    with closing(Site(arguments.directory).authority()) as authority:
        certificates = authority.certificates()
    now = _now()
    for each in certificates:
        state = "revoked" if each.revoked else "expired" if each.not_after <= now else "valid"
        if arguments.json:
            times = {"issued": each.issued, "not_after": each.not_after, "revoked": each.revoked}
            facts = {name: None if time is None else time.isoformat() for name, time in times.items()}
            named = {"name": each.name, "profile": each.profile, "serial": each.serial, "state": state}
            print(json.dumps({**named, **facts}))
        else:
            print(f"{each.name:16} {each.profile:10} {state:8} until {each.not_after:%Y-%m-%d}  {each.serial}")
    return 0


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
