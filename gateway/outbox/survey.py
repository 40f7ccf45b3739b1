"""Reading an outbox that a daemon may be writing to: nothing is changed, nothing is locked."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cbor2

from gateway.envelope.open import SignedBundle, parse
from gateway.errors import MalformedError, OutboxError
from gateway.model import Lane, Link
from gateway.outbox.files import Files
from gateway.outbox.framing import Damage, FrameKind, Trailer, decode_trailer, scan
from gateway.outbox.outbox import place, read_book
from gateway.outbox.receipted import Receipted
from gateway.outbox.segment import segment_paths


@dataclass(frozen=True, slots=True)
class Held:
    """A bundle as it lies in a segment."""

    lane: Lane
    path: Path
    trailer: Trailer
    data: bytes
    receipted: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in a segment that is not as it was written."""

    segment: str
    offset: int
    what: str


@dataclass(frozen=True, slots=True)
class Survey:
    """An outbox at a glance, as it lies on the disk."""

    segments: int
    quarantined: int
    """Segments kept for a person, because something in them cannot be read."""
    bundles: int
    bytes: int
    records: int
    waiting_bundles: int
    """Those that no receipt covers."""
    waiting_bytes: int
    oldest_waiting_ms: int | None
    torn: int
    """Ends of segments that an interrupted write left; nothing durable is lost with them."""
    faults: tuple[Fault, ...]


def held_bundles(directory: Path) -> Iterator[Held]:
    """Yield every bundle that can be read, lane by lane in order. Raises `OutboxError`."""
    for found in _walk(directory):
        if isinstance(found, Held):
            yield found


def survey(directory: Path) -> Survey:
    """Read every frame, and check each bundle against its own hash and its chain. Raises `OutboxError`."""
    bundles, faults, torn = [], list[Fault](), 0
    sizes = waiting = waiting_bytes = records = 0
    oldest: int | None = None
    chain = _ChainCheck()
    for found in _walk(directory):
        if isinstance(found, Fault):
            faults.append(found)
        elif isinstance(found, Held):
            bundles.append(found.trailer.link)
            sizes += len(found.data)
            records += sum(span.count for span in found.trailer.spans)
            if not found.receipted:
                waiting += 1
                waiting_bytes += len(found.data)
                times = [span.from_ms for span in found.trailer.spans]
                oldest = min([*times, *([] if oldest is None else [oldest])], default=None)
            if (wrong := chain.check(found)) is not None:
                faults.append(Fault(found.path.name, 0, wrong))
        else:
            torn += 1
    paths = _paths(directory)
    return Survey(
        segments=len(paths),
        quarantined=sum(path.suffix == ".bad" for _, path in paths),
        bundles=len(bundles),
        bytes=sizes,
        records=records,
        waiting_bundles=waiting,
        waiting_bytes=waiting_bytes,
        oldest_waiting_ms=oldest,
        torn=torn,
        faults=tuple(faults),
    )


def export(directory: Path, target: Path, *, everything: bool) -> int:
    """Write bundles that no receipt covers, or all, to a file that a receiver imports; returns how many.

    The file is a CBOR sequence (RFC 8742) of byte strings, each one bundle as it would be sent; only its owner may read
    it. Raises `OutboxError`.
    """
    files = Files()
    fresh = target.with_name(target.name + ".new")
    count = 0
    try:
        fd = files.create(fresh)
        try:
            offset = 0
            for held in held_bundles(directory):
                if everything or not held.receipted:
                    item = cbor2.dumps(held.data)
                    files.write(fd, item, offset)
                    offset += len(item)
                    count += 1
            files.sync_all(fd)
        finally:
            files.close(fd)
        files.rename(fresh, target)
        files.sync_directory(target.parent)
    except OSError as error:
        raise OutboxError(f"{target}: cannot be written: {error.strerror}") from error
    return count


class _ChainCheck:
    """Compares each bundle with what its trailer says of it, and with the one before it."""

    def __init__(self) -> None:
        self._before: Link | None = None

    def check(self, held: Held) -> str | None:
        link, before = held.trailer.link, self._before
        self._before = link
        try:
            bundle: SignedBundle = parse(held.data)
        except MalformedError as error:
            return f"bundle {link.no} of chain {link.chain.hex()} is malformed: {error}"
        if (bundle.chain, bundle.no, bundle.hash) != (link.chain, link.no, link.hash):
            return f"bundle {link.no} of chain {link.chain.hex()} is not the one that was written"
        if before is not None and before.chain == link.chain and before.no + 1 < link.no:
            return f"bundles {before.no + 1} to {link.no - 1} of chain {link.chain.hex()} are not here"
        if before is not None and before.chain == link.chain and bundle.prev != before.hash:
            return f"bundle {link.no} of chain {link.chain.hex()} does not follow the one before"
        return None


def _paths(directory: Path) -> list[tuple[Lane, Path]]:
    files = Files()
    return [(lane, path) for lane in Lane for path in segment_paths(files, place(directory, lane))]


def _walk(directory: Path) -> Iterator[Held | Fault | Damage]:
    """Yield bundles, faults, and torn ends. A segment that is deleted meanwhile is passed over."""
    files = Files()
    try:
        if not files.exists(directory):
            raise OutboxError(f"{directory}: there is no outbox")
        book = read_book(files, directory)
        for lane, path in _paths(directory):
            with suppress(FileNotFoundError):
                data = files.read(path, 0, files.size(path))
                yield from _frames(lane, path, data, book)
    except OSError as error:
        raise OutboxError(f"{directory}: cannot be read: {error.strerror}") from error


def _frames(lane: Lane, path: Path, data: bytes, book: Receipted) -> Iterator[Held | Fault | Damage]:
    last: Link | None = None
    damage: Damage | None = None
    for found in scan(data):
        if damage is not None:
            yield Fault(path.name, damage.offset, f"{damage.end - damage.offset} bytes cannot be read")
            damage = None
        if isinstance(found, Damage):
            damage = found
        elif found.kind == FrameKind.BUNDLE:
            try:
                trailer = decode_trailer(found.trailer)
            except MalformedError as error:
                yield Fault(path.name, found.offset, str(error))
                continue
            if trailer.link != last:
                link = last = trailer.link
                receipted = not any(book.holes(link.chain, link.no, link.no))
                yield Held(lane, path, trailer, found.bundle, receipted)
    if damage is not None:
        yield damage
