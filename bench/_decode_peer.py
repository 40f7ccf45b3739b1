"""The peer's side of `bench decode`: runs in the peer's environment, which has none of this project's requirements.

Standard input: {NAME: [UUID, HEX]}, answered by those that the peer refuses, {NAME: ERROR}; then one line a round,
answered by {NAME: MICROSECONDS}.
"""

import importlib
import json
import sys
from collections.abc import Callable

from bench._measure import microseconds


def main() -> None:
    """Serve until standard input ends."""
    library, calls = sys.argv[1], int(sys.argv[2])
    translator = importlib.import_module(library.replace("-", "_")).BluetoothSIGTranslator()

    def job(characteristic: int, octets: str) -> Callable[[], object]:
        uuid, value = f"{characteristic:04X}", bytearray.fromhex(octets)
        return lambda: translator.parse_characteristic(uuid, value)

    jobs: dict[str, Callable[[], object]] = {}
    refused: dict[str, str] = {}
    for name, (characteristic, octets) in json.loads(sys.stdin.readline()).items():
        try:
            job(characteristic, octets)()
        except Exception as error:  # noqa: BLE001 - a peer may fail however it likes; it is then left out
            refused[name] = str(error)
        else:
            jobs[name] = job(characteristic, octets)
    print(json.dumps(refused), flush=True)
    for _ in sys.stdin:
        print(json.dumps({name: microseconds(each, calls=calls) for name, each in jobs.items()}), flush=True)


if __name__ == "__main__":
    main()
