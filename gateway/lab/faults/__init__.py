"""Every fault that `iomt-gateway prove` knows, by name."""

from gateway.lab.faults import broker, network, processes, storage

FAULTS = {fault.name: fault for fault in (*processes.FAULTS, *network.FAULTS, *broker.FAULTS, *storage.FAULTS)}
