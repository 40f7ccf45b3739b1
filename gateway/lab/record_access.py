"""A wearable's store and its Record Access Control Point (0x2A52): counts, reports by sequence, never deletes."""

import asyncio
from collections.abc import Callable, Sequence

from bumble.att import ATT_Error
from bumble.device import Connection
from bumble.gatt import Characteristic

from gateway.errors import DecodeError
from gateway.health import racp
from gateway.health.racp import Abort, Code, Filter, Opcode, Operator, Request
from gateway.lab.peripheral import Peripheral

UUID = 0x2A52

_CCCD_IMPROPERLY_CONFIGURED = 0xFD
_PROCEDURE_IN_PROGRESS = 0xFE

Records = Sequence[bytes]


class RecordStore:
    """Keeps records by sequence and serves them on request.

    `characteristic` sends the records; `by_number`: they can be asked for from a number on. `answer` is what a request
    leads to, (records to send, response): a test puts another in its place to see what a gateway makes of a wearable
    that is busy, lies or stays silent. What runs now is `procedure`.
    """

    def __init__(
        self, peripheral: Peripheral, characteristic: Characteristic[bytes], *, by_number: bool = True
    ) -> None:
        self._peripheral = peripheral
        self._characteristic = characteristic
        self._by_number = by_number
        self._records: list[tuple[int, bytes]] = []
        self.procedure: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.control_point = peripheral.control_point(UUID, self._on_write)
        self.answer: Callable[[bytes], tuple[Records, bytes | None]] = self.serve

    def __len__(self) -> int:
        return len(self._records)

    def add(self, sequence: int, record: bytes) -> None:
        """Keep one more record; sequences ascend."""
        self._records.append((sequence, record))

    def clear(self) -> None:
        """Forget all records."""
        self._records.clear()

    def serve(self, request: bytes) -> tuple[Records, bytes | None]:
        """What to send for `request`: records, then the response."""
        opcode = request[0] if request else 0
        try:
            asked = racp.decode(request)
        except DecodeError:
            return (), _response(opcode, Code.INVALID_OPERAND)
        if isinstance(asked, Abort):
            return (), _response(opcode, Code.SUCCESS)
        if not isinstance(asked, Request) or asked.op not in (Opcode.REPORT, Opcode.REPORT_NUMBER):
            return (), _response(opcode, Code.OPCODE_NOT_SUPPORTED)
        records = self._select(asked)
        if records is None:
            return (), _response(opcode, Code.OPERATOR_NOT_SUPPORTED)
        if asked.op is Opcode.REPORT_NUMBER:
            return (), racp.NumberOfRecords(len(records)).encode()
        return records, _response(opcode, Code.SUCCESS if records else Code.NO_RECORDS)

    def _select(self, asked: Request) -> Records | None:
        """Records that are meant; None for an operator that this wearable does not know."""
        match asked:
            case Request(operator=Operator.ALL):
                return [record for _, record in self._records]
            case Request(operator=Operator.FROM, filter=Filter.SEQUENCE, operands=(int(first),)) if self._by_number:
                return [record for sequence, record in self._records if sequence >= first]
        return None

    def _on_write(self, connection: Connection, request: bytes) -> None:
        """GLS 1.0.1, section 3.3: subscribe first, and one procedure at a time."""
        subscribed = self._peripheral.subscribers
        if connection not in subscribed(self.control_point) or connection not in subscribed(self._characteristic):
            raise ATT_Error(_CCCD_IMPROPERLY_CONFIGURED)
        if self.procedure:
            if request[:1] != bytes((Opcode.ABORT,)):
                raise ATT_Error(_PROCEDURE_IN_PROGRESS)
            self.procedure.cancel()
        self.procedure = task = asyncio.create_task(self._run(connection, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, connection: Connection, request: bytes) -> None:
        records, response = self.answer(request)
        for record in records:
            if self._characteristic.properties & Characteristic.Properties.INDICATE:
                await self._peripheral.indicate(connection, self._characteristic, record)
            else:
                await self._peripheral.notify_one(connection, self._characteristic, record)
            await asyncio.sleep(0)
        self.procedure = None  # the next request may cross this one's confirmation
        if response is not None:
            await self._peripheral.indicate(connection, self.control_point, response)


def _response(opcode: int, code: int) -> bytes:
    return racp.Response(opcode, code).encode()
