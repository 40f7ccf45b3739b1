"""Who can reach whom: `reach.py listen WHERE...` answers at each place, `reach.py ask SOURCE WHERE...` tries.

WHERE is PROTOCOL:ADDRESS:PORT. What was tried is written as JSON: WHERE to "answered", "refused" or "silent".
"""

import json
import selectors
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

WAIT_S = 1.5


def endpoint(where: str) -> tuple[int, int, str, int]:
    protocol, _, rest = where.partition(":")
    address, _, port = rest.rpartition(":")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM, address, int(port)


def listen(places: list[str]) -> None:
    selector = selectors.DefaultSelector()
    for where in places:
        family, kind, address, port = endpoint(where)
        sock = socket.socket(family, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        selector.register(sock, selectors.EVENT_READ, kind)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        for key, _ in selector.select():
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            if key.data == socket.SOCK_STREAM:
                peer, _ = sock.accept()
                with peer:
                    peer.sendall(b"here")
            else:
                _, sender = sock.recvfrom(64)
                sock.sendto(b"here", sender)


def ask(where: str, source: str) -> str:
    family, kind, address, port = endpoint(where)
    with socket.socket(family, kind) as sock:
        sock.settimeout(WAIT_S)
        try:
            sock.bind((source, 0))
            sock.connect((address, port))
            if kind == socket.SOCK_DGRAM:
                sock.send(b"anybody?")
                time.sleep(0.05)
            return "answered" if sock.recv(64) == b"here" else "refused"
        except TimeoutError:
            return "silent"
        except OSError:
            return "refused"


if __name__ == "__main__":
    act, *rest = sys.argv[1:]
    if act == "listen":
        listen(rest)
    else:
        source, *places = rest
        with ThreadPoolExecutor(len(places)) as pool:
            json.dump(dict(zip(places, pool.map(ask, places, [source] * len(places)), strict=True)), sys.stdout)
