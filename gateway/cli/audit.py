"""`iomt-receiver audit`: the store against what gateways signed."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.cli import common
from gateway.config import load
from gateway.envelope.layout import self_stream
from gateway.errors import ConfigError, IdentityError, StoreError
from gateway.receiver.config import ReceiverConfig

_PROGRESS_S = 2.0
_UNEXPLAINED = 1
_MOST_JOBS = 256


def add_parser(commands: common.Subparsers) -> None:
    """`audit`."""
    parser = commands.add_parser(
        "audit",
        help="verify the archive of signed messages, and say of everything that is missing why",
        description="Verify the archive of signed messages, chain by chain, and say of everything that is missing why."
        " Exit status: 0 nothing is unexplained; 1 something is; 2 it could not be looked at.",
    )
    parser.add_argument("--config", type=Path, default=common.RECEIVER_CONFIG, metavar="FILE", help=common.DEFAULT)
    parser.add_argument("--stream", metavar="HEX", help="only this stream, and the chains that it is in")
    parser.add_argument(
        "--jobs", type=_jobs, default=os.cpu_count(), metavar="N", help="processes (default: all cores)"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(command=_audit)


def _audit(arguments: argparse.Namespace) -> int:
    from gateway.identity.files import load_registry
    from gateway.receiver.audit import audit
    from gateway.receiver.judging import judging
    from gateway.receiver.stores import open_archive

    config = load(arguments.config, ReceiverConfig)
    stream = None if arguments.stream is None else _stream(arguments.stream)
    try:
        registry = load_registry(config.receiver.registry)
        with judging(registry, arguments.jobs) as judge, open_archive(config) as archive:
            report = audit(archive, judge, stream=stream, on_progress=_Progress())
    except (IdentityError, StoreError) as error:
        raise ConfigError(str(error)) from error
    if stream is not None and not any(each["streams"] for each in report["gateways"].values()):
        raise ConfigError(f"--stream {arguments.stream}: the store has no record of this stream")
    print(json.dumps(report) if arguments.json else "\n".join(_lines(report)))
    return _UNEXPLAINED if report["unexplained"] else 0


def _jobs(text: str) -> int:
    number = int(text)
    if not 1 <= number <= _MOST_JOBS:
        raise argparse.ArgumentTypeError(f"{text}: not 1 to {_MOST_JOBS}")
    return number


def _stream(text: str) -> bytes:
    try:
        stream = bytes.fromhex(text)
    except ValueError:
        stream = b""
    if len(stream) != 16:  # noqa: PLR2004 - docs/format.md
        raise ConfigError(f"--stream {text}: a stream is 32 hexadecimal digits")
    return stream


class _Progress:
    """Every two seconds a line on standard error."""

    def __init__(self) -> None:
        self._next_s = time.monotonic() + _PROGRESS_S

    def __call__(self, done: int, total: int) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _PROGRESS_S
            print(f"audit: {done:,} of {total:,} bundles", file=sys.stderr)


def _lines(report: dict[str, Any]) -> Iterator[str]:
    for name, gateway in report["gateways"].items():
        own = self_stream(name).hex()
        verified = f"{gateway['verified']:,} of {gateway['bundles']:,} bundles verified"
        erased = f", {gateway['erased']:,} erased" if gateway["erased"] else ""
        yield f"{name}: {verified}{erased}, chains: {gateway['chains']:,}"
        for stream, entry in gateway["streams"].items():
            span = f"{_time(entry['first_ms'])} to {_time(entry['last_ms'])}"
            whose = " (the gateway's own)" if stream == own else ""
            yield f"  stream {stream}{whose}: {span}, {entry['records']:,} records, {entry['missing']:,} missing"
            yield from (f"    records {_hole(each)}" for each in entry["gaps"])
        yield from (f"  bundles missing {_hole(each)}" for each in gateway["missing"])
        yield from (f"  not as signed: {_place(each)}" for each in gateway["findings"])
        yield from (f"  fork: {_place(each)}" for each in gateway["forks"])
        log = gateway["audit_log"]
        if log["entries"]:
            yield f"  audit log: {log['entries']:,} entries, head {log['head']}"
        for each in log["changes"]:
            yield f"  audit log {each['cause']}: entry {each['no']}, as chain {each['chain']} tells it"
    if report["parked"]:
        yield f"{report['parked']:,} bundles wait for a key"
    yield f"{report['unexplained']:,} unexplained" if report["unexplained"] else "clean: nothing is unexplained"


def _hole(entry: dict[str, Any]) -> str:
    return f"{entry['first']}..{entry['last']} of chain {entry['chain']}: {entry['cause']}"


def _place(entry: dict[str, Any]) -> str:
    return f"bundle {entry['no']} of chain {entry['chain']}: {entry['cause']}"


def _time(time_ms: int | None) -> str:
    return "?" if time_ms is None else f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
