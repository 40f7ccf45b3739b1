"""Every fault that `iomt-gateway prove` knows, by name."""

from gateway.lab.faults import broker, card, clock, database, network, processes

_ROOMS = (processes, network, broker, database, card, clock)
FAULTS = {fault.name: fault for room in _ROOMS for fault in room.FAULTS}
