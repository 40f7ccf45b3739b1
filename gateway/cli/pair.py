"""`iomt-gateway devices pair`: from a wearable out of its box to readings that are one person's.

A pairing that does not come to its end leaves nothing: the daemon cancels it when this process goes, and what was
paired already is undone here, after Ctrl-C, a terminal that was closed, and a "no".
"""

import argparse
import asyncio
import re
import signal
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from gateway.ble.inventory import TEXT_MAX
from gateway.cli import common, terminal, wearables, words
from gateway.cli.person import Person
from gateway.cli.terminal import Style
from gateway.cli.wearables import DONE, STREAM, WEARABLE, WEARABLES
from gateway.config import GatewayConfig, load
from gateway.control import api
from gateway.control.client import Client
from gateway.errors import ConfigError, ControlError, GatewayError

_ASKED: Final = TypeAdapter(api.Asked)
_READING: Final = TypeAdapter(api.ReadingSeen)
_ADDRESS: Final = re.compile(r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}")
_MARGIN_S = 30.0
_POLL_S = 0.3
_TOGETHER_S = 1.0
"""What one measurement tells comes within this time."""
_INTERRUPTED = 130


def add_parser(actions: common.Subparsers) -> None:
    """Add the command."""
    pair = actions.add_parser(
        "pair",
        help="pair one and say whose it is, step by step",
        description="Pair a wearable, compare a reading with its display, and begin a stream for one person, step by"
        " step. Ctrl-C undoes what was done. A program gives DEVICE and --json, reads the events, and answers each"
        " `asked` with a line: the six digits on the wearable's display, or yes or no.",
    )
    pair.add_argument("device", metavar="DEVICE", nargs="?", help="its address; else those nearby are shown")
    pair.add_argument("--config", type=Path, default=common.GATEWAY_CONFIG, metavar="FILE", help=common.DEFAULT)
    pair.add_argument("--profile", choices=words.KINDS, help="what it is, without looking")
    pair.add_argument(
        "--seconds", type=wearables.SECONDS, default=wearables.SCAN_S, metavar="N", help="to listen (%(default)g)"
    )
    pair.add_argument(
        "--name",
        type=wearables.name,
        metavar="NAME",
        help='what people call it, such as "bed 4"; never a patient\'s name',
    )
    pair.add_argument(
        "--user", type=wearables.SLOT, metavar="N", help="the person's slot in a wearable that several share"
    )
    pair.add_argument("--since", metavar="TIME", help="as in: devices assign")
    pair.add_argument("--no-assign", action="store_true", help="only pair; nothing is taken from it yet")
    pair.add_argument(
        "--wait",
        type=common.within(float, 0, 86_400),
        default=300.0,
        metavar="N",
        help="seconds for a reading to compare; 0: none (%(default)g)",
    )
    pair.add_argument("--json", action="store_true", help="events as lines of JSON, answers on standard input")
    pair.set_defaults(command=_pair)


def _pair(arguments: argparse.Namespace) -> int:
    config = load(arguments.config, GatewayConfig)
    since_ms = wearables.since(arguments.since)

    async def main() -> int:
        dialogue = Dialogue(Client(config), Person(as_json=arguments.json), arguments, since_ms)
        talking = asyncio.create_task(dialogue.run(config.ble.pairing_window_s))

        def stop() -> None:
            if not (dialogue.undoing or talking.cancelling()):  # a terminal that goes says so twice
                talking.cancel()

        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        return await talking

    try:
        return asyncio.run(main())
    except (asyncio.CancelledError, OSError):  # the terminal has gone
        return _INTERRUPTED


class Dialogue:
    """One pairing, from looking around to the person's own reading."""

    def __init__(self, daemon: Client, person: Person, arguments: argparse.Namespace, since_ms: int | None) -> None:
        self._daemon = daemon
        self._person = person
        self._arguments = arguments
        self._since_ms = since_ms
        self._known: api.Wearable | None = None
        """As it was before; None: it was new."""
        self._address: str | None = None
        """Of what is to be undone if this does not come to its end."""
        self._complete = False
        self.undoing = False
        self._assigned = False
        self._slot_used: int | None = None

    async def run(self, window_s: float) -> int:
        """The exit status. Raises `GatewayError`."""
        person, arguments = self._person, self._arguments
        try:
            address, profile = await self._choose()
            wearable = await self._bond(address, profile, window_s)
            if wearable.known.quarantine:
                self._complete = True  # it stays as it is
                raise ControlError(
                    "quarantined",
                    f"{address}: is paired, and quarantined ({wearable.known.quarantine}): an administrator decides;"
                    f" iomt-gateway devices show {address}",
                )
            stream = None if arguments.no_assign else await self._assign(wearable)
            name = await self._name(wearable)
            if name:
                await self._daemon.post(f"/v1/devices/{address}/rename", DONE, {"name": name})
            self._complete = True
        finally:
            if not self._complete:
                await self._undo()
        person.event("done", address=address, stream=stream)
        person.tell()
        person.tell("Done.", Style.GREEN)
        if stream:
            person.tell(wearables.whose(stream))
        else:
            person.tell(f"Nothing is taken from it yet; next: iomt-gateway devices assign {address}")
        return 0

    async def _choose(self) -> tuple[str, str | None]:
        """Address and profile of what is to be paired."""
        wanted, person = self._arguments.device, self._person
        present = await self._daemon.get("/v1/devices", WEARABLES)
        if wanted is None:
            if not person.here:
                raise ConfigError("say which: iomt-gateway devices pair DEVICE; see: iomt-gateway devices scan")
            address = await self._pick(present)
        elif _ADDRESS.fullmatch(wanted.upper()):
            address = wanted.upper()
        else:
            address = wearables.find(present, wanted).known.address
        self._known = next((each for each in present if each.known.address == address), None)
        if self._known and self._known.known.bond.name != "NONE":
            raise ConfigError(
                f"{address} ({words.called(self._known.known)}): is paired; to do it again, first:"
                f" iomt-gateway devices unpair {address} --yes"
            )
        if wanted is not None and not self._known and self._arguments.profile is None:
            found = await wearables.scan(self._daemon, self._arguments.seconds)
            if address not in [each.address for each in found]:
                raise ControlError(
                    "not-heard", f"{address}: was not heard; switch it on or take a reading with it, then try again"
                )
        return address, self._arguments.profile

    async def _pick(self, present: Sequence[api.Wearable]) -> str:
        """The address of the one that the person chooses of those nearby."""
        paired = {each.known.address for each in present if each.known.bond.name != "NONE"}
        self._person.tell("Switch the wearable on, or take a reading with it now: many are heard only")
        self._person.tell("then. Some have a Bluetooth or pairing mode in their menu.")
        self._person.tell()
        while True:
            found = [
                each
                for each in await wearables.scan(self._daemon, self._arguments.seconds)
                if each.address not in paired
            ]
            numbers = [str(no) for no in range(1, len(found) + 1)]
            if found:
                self._person.tell("\n".join(wearables.nearby(found, numbered=True)))
                self._person.tell()
                choice = await self._person.ask("Which one? NO, or again, or quit:", (*numbers, "again", "quit"))
            else:
                self._person.tell("No wearable was heard that is not paired already.")
                choice = await self._person.ask("Listen again, or quit?", ("again", "quit"))
            if choice == "quit":
                raise ControlError("quit", "nothing was paired")
            if choice != "again":
                return found[int(choice) - 1].address

    async def _bond(self, address: str, profile: str | None, window_s: float) -> api.Wearable:
        """Pair it, with what the person compares or types."""
        person = self._person
        self._address = address
        person.tell(f"Pairing with {address}. If it asks whether it may, say yes on it.")
        body = {"address": address, "profile": profile}
        pairing = asyncio.create_task(
            self._daemon.post("/v1/pairing", WEARABLE, body, timeout_s=window_s + _MARGIN_S), name="pairing"
        )
        try:
            async with terminal.progress("Waiting for the wearable", window_s):
                asked = await self._question(pairing, address)
            while asked:
                answering = asyncio.create_task(self._answer(asked))
                await asyncio.wait((pairing, answering), return_when=asyncio.FIRST_COMPLETED)
                if answering.done():
                    await answering
                answering.cancel()
                asked = await self._question(pairing, address, asked)
            wearable = await pairing
        finally:
            pairing.cancel()
        facts = wearable.known
        serial = f", serial number {terminal.plain(facts.identity.serial)}" if facts.identity.serial else ""
        what = words.make_and_model(facts) or words.kind(facts.profile)
        person.event("paired", wearable=WEARABLE.dump_python(wearable, mode="json"))
        person.tell()
        person.tell(f"Paired: {what}{serial}.", Style.GREEN)
        return wearable

    async def _question(
        self, pairing: asyncio.Task[api.Wearable], address: str, before: api.Asked | None = None
    ) -> api.Asked | None:
        """What the person is asked next; None: the pairing has ended."""
        while not pairing.done():
            asked = await self._daemon.get("/v1/pairing", _ASKED)
            if asked.address == address and asked != before:
                return asked
            await asyncio.wait((pairing,), timeout=_POLL_S)
        return None

    async def _answer(self, asked: api.Asked) -> None:
        """Put the daemon's question to the person, and the answer back."""
        person = self._person
        digits = None if asked.number is None else f"{asked.number:06}"
        person.event("asked", method=asked.method, number=digits)
        person.tell()
        if asked.method == "show":
            person.tell(f"Type these six digits on the wearable:   {_spaced(digits)}", Style.STRONG)
            return
        answer: dict[str, Any]
        if asked.method == "compare" and person.here:
            person.tell(f"The wearable should show these six digits:   {_spaced(digits)}", Style.STRONG)
            answer = {"yes": await person.agrees("Does it show the same?")}
        elif asked.method == "compare":
            answer = {"yes": _digits(await person.ask("Which six digits does the wearable show?")) == digits}
        else:
            said = _digits(await person.ask("Which six digits does the wearable show?"))
            answer = {"yes": said is not None, "number": said and int(said)}
        with suppress(ControlError):  # what the pairing itself ends with says more
            await self._daemon.post("/v1/pairing/answer", DONE, answer)

    async def _assign(self, wearable: api.Wearable) -> str:
        """Begin a stream, unless it is still the same person's, and let them compare a reading; the stream."""
        address, known = wearable.known.address, wearable.known
        keep = known.assigned and await self._same_person()
        if known.assigned and not keep:  # what is in its other slots is not theirs any more either
            await self._daemon.call("POST", f"/v1/devices/{address}/unassign", {"everyone": True})
        slot = self._arguments.user if keep else await self._slot(known.profile)
        ready = asyncio.Event()
        reading = asyncio.create_task(self._reading(address, ready))
        listening = asyncio.create_task(ready.wait())
        try:
            await asyncio.wait((reading, listening), return_when=asyncio.FIRST_COMPLETED)
            if keep and (slot is None or known.owner(slot)):
                stream = known.streams[0].hex()
            else:
                body = {"user": slot, "since_ms": self._since_ms}
                stream = (await self._daemon.post(f"/v1/devices/{address}/assign", STREAM, body)).stream
                self._assigned, self._slot_used = True, slot
                self._person.event("assigned", stream=stream)
            await self._compare(reading, address)
        finally:
            reading.cancel()
            listening.cancel()
        return stream

    async def _same_person(self) -> bool:
        self._person.event("asked", method="same-person", number=None)
        return await self._person.agrees("It was somebody's before. Is it still the same person's?")

    async def _slot(self, profile: str) -> int | None:
        """The person's user slot in a wearable that several share."""
        slot: int | None = self._arguments.user
        if slot is not None or profile not in wearables.SHARED or not self._person.here:
            return slot
        while said := await self._person.ask("The person's user number on it, 0 to 255; Enter, if there are none:"):
            if said.isdecimal() and int(said) <= wearables.SLOT_MAX:
                return int(said)
        return None

    async def _reading(self, address: str, ready: asyncio.Event) -> list[api.ReadingSeen]:
        """What the wearable tells of one measurement; `ready` once somebody listens."""
        seen: list[api.ReadingSeen] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as patience:
                async with aclosing(self._daemon.listen(f"/v1/devices/{address}/readings")) as events:
                    async for name, data in events:
                        ready.set()
                        reading = _READING.validate_python(data) if name == "reading" else None
                        if reading and words.comparable(reading):
                            if not seen:
                                patience.reschedule(asyncio.get_running_loop().time() + _TOGETHER_S)
                            seen.append(reading)
        return seen

    async def _compare(self, reading: asyncio.Task[list[api.ReadingSeen]], address: str) -> None:
        """Wait for the person's own reading, and let them compare it with the wearable's display."""
        person, wait_s = self._person, self._arguments.wait
        if not wait_s:
            return
        person.tell()
        person.tell("Now take a reading with it, to see that it is this wearable which speaks.")
        person.tell("One that measures by itself may take some minutes. Enter: go on without.")
        person.forget()
        skipped = asyncio.create_task(person.line() if person.here else asyncio.sleep(wait_s))
        async with terminal.progress("Waiting for a reading", wait_s):
            await asyncio.wait((reading, skipped), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        skipped.cancel()
        if not reading.done():
            person.tell("Not compared. Later: iomt-gateway watch --values")
            now = await self._daemon.get(f"/v1/devices/{address}", WEARABLE)
            for user in now.known.unmapped_users:
                person.tell(f"Readings came of its user {user}, who is nobody. If that is the person:")
                person.tell(f"  iomt-gateway devices assign {address} --user {user}")
            return
        for each in await reading:
            person.event("reading", **asdict(each))
            person.tell(f"    {words.measured(each)}", Style.STRONG)
        person.event("asked", method="same-reading", number=None)
        if not await person.agrees("Does its display show the same?"):
            raise ControlError("another-reading", "then another wearable speaks than this one: everything was undone")

    async def _name(self, wearable: api.Wearable) -> str | None:
        if self._arguments.name is not None or not self._person.here or wearable.known.name:
            name: str | None = self._arguments.name
            return name
        self._person.tell()
        while (
            len(said := await self._person.ask('A name for it, such as "bed 4", never a patient\'s. Enter: none.'))
            > TEXT_MAX
        ):
            self._person.tell(f"At most {TEXT_MAX} characters, please.")
        return said

    async def _undo(self) -> None:
        """Leave nothing half done. Tells what it came to, and raises nothing."""
        self.undoing = True
        person, address = self._person, self._address
        if address is None:
            return
        path = f"/v1/devices/{address}"
        try:
            present = await self._daemon.get("/v1/devices", WEARABLES)
            if not any(each.known.address == address and each.known.bond.name != "NONE" for each in present):
                done = "Nothing was paired."
            elif self._known is None and await self._removed(path):
                done = "Undone: it is as if it had never been paired here."
            else:
                if self._assigned:
                    await self._daemon.call("POST", f"{path}/unassign", {"user": self._slot_used})
                await self._daemon.call("POST", f"{path}/unpair", timeout_s=_MARGIN_S)
                done = "Undone: it is in the list, but not paired."
        except GatewayError as error:
            done = f"It could not be undone: {error}\nLater: iomt-gateway devices unpair {address} --yes"
        with suppress(OSError):  # the terminal has gone
            person.event("undone", address=address, message=done)
            person.tell(f"\n{done}", Style.AMBER)

    async def _removed(self, path: str) -> bool:
        """Forget a wearable that was new; False: this person may not."""
        try:
            await self._daemon.call("DELETE", path, timeout_s=_MARGIN_S)
        except ControlError as error:
            if error.reason != "forbidden":
                raise
            return False
        return True


def _digits(said: str) -> str | None:
    """Six digits, however they are grouped; None: something else."""
    digits = re.sub(r"[\s-]", "", said)
    return digits if re.fullmatch(r"[0-9]{6}", digits) else None


def _spaced(digits: str | None) -> str:
    return f"{digits[:3]} {digits[3:]}" if digits else ""
