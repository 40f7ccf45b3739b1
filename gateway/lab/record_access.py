"""A wearable's store and its Record Access Control Point (0x2A52): counts, reports by sequence, never deletes."""

import asyncio
import struct
from collections.abc import Callable, Sequence
from enum import IntEnum

from bumble.att import ATT_Error
from bumble.device import Connection
from bumble.gatt import Characteristic

from gateway.lab.peripheral import Peripheral

UUID = 0x2A52

_CCCD_IMPROPERLY_CONFIGURED = 0xFD
_PROCEDURE_IN_PROGRESS = 0xFE

_REPORT, _ABORT, _COUNT, _COUNT_RESPONSE, _RESPONSE = 1, 3, 4, 5, 6
_SUCCESS, _OP_NOT_SUPPORTED, _OPERATOR_NOT_SUPPORTED, _INVALID_OPERAND, _NO_RECORDS = 1, 2, 4, 5, 6

Records = Sequence[bytes]


class Operator(IntEnum):
    """Which records a request means."""

    ALL = 1
    FROM = 3
    OLDEST = 5
    NEWEST = 6


class RecordStore:
    """Keeps records by sequence and serves them on request.

    `characteristic` sends the records. `answer` is what a request leads to, (records to send, response): a test puts
    another in its place to see what a gateway makes of a wearable that is busy, lies or stays silent.
    """

    def __init__(self, peripheral: Peripheral, characteristic: Characteristic[bytes]) -> None:
        self._peripheral = peripheral
        self._characteristic = characteristic
        self._records: list[tuple[int, bytes]] = []
        self._procedure: asyncio.Task[None] | None = None
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
        if opcode == _ABORT:
            return (), _response(opcode, _SUCCESS)
        if opcode not in (_REPORT, _COUNT):
            return (), _response(opcode, _OP_NOT_SUPPORTED)
        try:
            records = self._select(request[1], request[2:])
        except KeyError:
            return (), _response(opcode, _OPERATOR_NOT_SUPPORTED)
        except (IndexError, struct.error):
            return (), _response(opcode, _INVALID_OPERAND)
        if opcode == _COUNT:
            return (), struct.pack("<BBH", _COUNT_RESPONSE, 0, len(records))
        return records, _response(opcode, _SUCCESS if records else _NO_RECORDS)

    def _select(self, operator: int, operand: bytes) -> Records:
        records = [record for _, record in self._records]
        match operator:
            case Operator.ALL:
                return records
            case Operator.FROM:
                _filter, first = struct.unpack("<BH", operand)
                return [record for sequence, record in self._records if sequence >= first]
            case Operator.OLDEST:
                return records[:1]
            case Operator.NEWEST:
                return records[-1:]
        raise KeyError(operator)

    def _on_write(self, connection: Connection, request: bytes) -> None:
        """GLS 1.0.1, section 3.3: subscribe first, and one procedure at a time."""
        subscribed = self._peripheral.subscribers
        if connection not in subscribed(self.control_point) or connection not in subscribed(self._characteristic):
            raise ATT_Error(_CCCD_IMPROPERLY_CONFIGURED)
        if self._procedure:
            if request[:1] != bytes([_ABORT]):
                raise ATT_Error(_PROCEDURE_IN_PROGRESS)
            self._procedure.cancel()
        self._procedure = task = asyncio.create_task(self._run(connection, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, connection: Connection, request: bytes) -> None:
        records, response = self.answer(request)
        for record in records:
            await self._peripheral.notify_one(connection, self._characteristic, record)
            await asyncio.sleep(0)
        self._procedure = None  # the next request may cross this one's confirmation
        if response is not None:
            await self._peripheral.indicate(connection, self.control_point, response)


def _response(opcode: int, code: int) -> bytes:
    return bytes([_RESPONSE, 0, opcode, code])
