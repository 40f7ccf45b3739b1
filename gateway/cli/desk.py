"""`iomt-receiver streams`, `export` and `forget`: whose a stream is, taking readings out, and destroying them."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from gateway.cli import common
from gateway.config import load
from gateway.errors import ConfigError
from gateway.receiver.config import ReceiverConfig

if TYPE_CHECKING:
    from gateway.receiver.export import Written
    from gateway.receiver.store import Store


def add_parser(commands: common.Subparsers) -> None:
    """Add both groups."""
    streams = commands.add_parser("streams", help="whose a stream is").add_subparsers(metavar="COMMAND", required=True)
    listing = streams.add_parser("list", help="every stream and its patient")
    assign = streams.add_parser("assign", help="say whose a stream is; replaces what was said before")
    unassign = streams.add_parser("unassign", help="forget whose a stream is")
    forget = commands.add_parser("forget", help="destroy all of a stream, for ever; prints the signed certificate")
    export = commands.add_parser("export", help="take readings out").add_subparsers(metavar="FORMAT", required=True)
    fhir = export.add_parser("fhir", help="FHIR R4 observations: NDJSON, or to a server")
    table = export.add_parser("csv", help="a table for researchers")
    for parser, command in (
        (listing, _list),
        (assign, _assign),
        (unassign, _unassign),
        (forget, _forget),
        (fhir, _fhir),
        (table, _csv),
    ):
        parser.add_argument("--config", type=Path, default=common.RECEIVER_CONFIG, metavar="FILE", help=common.DEFAULT)
        parser.add_argument("--json", action="store_true", help="machine-readable")
        parser.add_argument("--store", metavar="URL", help="address for a login of iomt_desk (default: store.url)")
        parser.set_defaults(command=command)
    forget.add_argument("--yes", action="store_true", help="do it; without, only say what would be destroyed")
    forget.add_argument(
        "--out", type=Path, metavar="FILE", help="where the certificate goes (default: standard output)"
    )
    for parser in (assign, unassign, forget):
        parser.add_argument("stream", metavar="STREAM", help="its id, 32 hexadecimal digits")
    assign.add_argument("patient", metavar="PATIENT_REF", help="a FHIR reference, such as Patient/4711")
    for parser in (fhir, table):
        parser.add_argument("--since", metavar="TIME", help="only what arrived since, ISO 8601 (default: everything)")
        parser.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
    fhir.add_argument("--to", metavar="URL", help="a FHIR server; what it has is not created again")


def _list(arguments: argparse.Namespace) -> int:
    from gateway.receiver import desk

    with _opened(arguments) as (store, _):
        found = desk.assigned(store)
    if arguments.json:
        print(json.dumps([{"gateway": g, "stream": s, "patient": p} for g, s, p in found]))
    for gateway, stream, patient in [] if arguments.json else found:
        print(f"{stream}  {gateway:20}  {patient or 'nobody'}")
    return 0


def _assign(arguments: argparse.Namespace) -> int:
    from gateway.receiver import desk

    kind, slash, name = arguments.patient.rpartition("/")
    if not (kind and slash and name) or any(not each.isprintable() or each.isspace() for each in arguments.patient):
        raise ConfigError(f"{arguments.patient!r}: is no FHIR reference, such as Patient/4711")
    with _opened(arguments) as (store, _):
        desk.assign(store, arguments.stream, arguments.patient, now_ms=_now_ms())
    return _done(arguments, "assigned", arguments.stream)


def _unassign(arguments: argparse.Namespace) -> int:
    from gateway.receiver import desk

    with _opened(arguments) as (store, _):
        desk.unassign(store, arguments.stream, now_ms=_now_ms())
    return _done(arguments, "unassigned", arguments.stream)


def _forget(arguments: argparse.Namespace) -> int:
    from gateway.envelope.keys import signer_for
    from gateway.identity.files import load_private_key
    from gateway.receiver import desk, erasure

    with _opened(arguments) as (store, config):
        if not arguments.yes:
            found = desk.find(store, arguments.stream)
            raise ConfigError(
                f"{arguments.stream} of {found.gateway}: its readings, keys and patient would be destroyed for ever;"
                " say --yes to do it"
            )
        # An MQTT broker keeps a receiver's session for a week, the default of the stream too.
        elsewhere = erasure.Elsewhere(-(-config.jetstream.max_age_s // 86_400), config.store.backup_days)
        signer = signer_for(load_private_key(config.receiver.receipt_key))
        with _out(arguments) as out:
            certificate = erasure.forget(store, arguments.stream, signer, elsewhere, now_ms=_now_ms())
            print(certificate, file=out)
    return 0


def _fhir(arguments: argparse.Namespace) -> int:
    from gateway.identity.tls import client_context
    from gateway.receiver import desk, export

    since_ms = _since_ms(arguments)
    with _opened(arguments) as (store, config):
        rows = desk.readings(store, since_ms=since_ms)
        if arguments.to:
            tls = client_context(config.tls.ca, config.tls.cert, config.tls.key)
            written = export.to_server(rows, arguments.to, tls=tls, progress=_progress)
        else:
            with _out(arguments) as out:
                written = export.to_ndjson(rows, out)
    return _wrote(arguments, written)


def _csv(arguments: argparse.Namespace) -> int:
    from gateway.receiver import desk, export

    since_ms = _since_ms(arguments)
    with _opened(arguments) as (store, _), _out(arguments) as out:
        written = export.to_csv(desk.readings(store, since_ms=since_ms), out)
    return _wrote(arguments, written)


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[tuple["Store", ReceiverConfig]]:
    from gateway.receiver.stores import open_store

    config = load(arguments.config, ReceiverConfig)
    if arguments.store:
        config = config.model_copy(update={"store": config.store.model_copy(update={"url": arguments.store})})
    with closing(open_store(config)) as store:
        yield store, config


@contextmanager
def _out(arguments: argparse.Namespace) -> Iterator[TextIO]:
    if arguments.out is None:
        yield sys.stdout
        return
    try:
        with os.fdopen(common.new_private(arguments.out), "w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise ConfigError(f"{arguments.out}: cannot be written: {error.strerror}") from error


def _since_ms(arguments: argparse.Namespace) -> int:
    if arguments.since is None:
        return 0
    try:
        since = datetime.fromisoformat(arguments.since)
    except ValueError as error:
        raise ConfigError(f"--since {arguments.since}: is not ISO 8601, such as 2026-11-01T08:00:00+01:00") from error
    return int((since if since.tzinfo else since.replace(tzinfo=UTC)).timestamp() * 1000)


def _wrote(arguments: argparse.Namespace, written: "Written") -> int:
    told = {"observations": written.observations, "resources": written.resources}
    print(json.dumps(told) if arguments.json else f"{written.observations} observations", file=sys.stderr)
    return 0


def _done(arguments: argparse.Namespace, what: str, stream: str) -> int:
    print(json.dumps({what: stream}) if arguments.json else f"{what} {stream}")
    return 0


def _progress(observations: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{observations} observations", end="", file=sys.stderr)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
