"""The way to a server, step by step, against real TLS; and what is told where it ends."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from gateway.control.doctor.probe import probe
from gateway.control.doctor.way import Step, Tried
from gateway.identity.tls import client_context, server_context
from gateway.lab.pki import make_dev_pki
from gateway.lab.site import free_port

GATEWAY = "gw-001"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pki")
    make_dev_pki(path, [GATEWAY])
    return path


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stranger")
    make_dev_pki(path, [GATEWAY])
    return path


def own(pki: Path, *, ca: Path | None = None) -> ssl.SSLContext:
    directory = pki / "gateways" / GATEWAY
    return client_context((ca or pki) / "ca.crt", directory / "tls.crt", directory / "tls.key")


def broker(pki: Path) -> ssl.SSLContext:
    return server_context(pki / "ca.crt", pki / "broker.crt", pki / "broker.key")


@contextmanager
def served(handle: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[int]:
    """The port of a server that treats each connection so, one after the other."""
    with closing(socket.create_server((host, 0))) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with closing(connection), suppress(OSError):
                        handle(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def over(tls: ssl.SSLContext) -> Callable[[socket.socket], None]:
    def handle(connection: socket.socket) -> None:
        with closing(tls.wrap_socket(connection, server_side=True)) as secured:
            assert secured.recv(1) == b"", "nothing but TLS is said"

    return handle


def ended(way: Iterator[Tried]) -> tuple[Step, bool, str]:
    """Where a way ends; every step before is done, in order."""
    tried = list(way)
    assert [each.step for each in tried] == list(Step)[: len(tried)]
    assert not any(each.failed for each in tried[:-1])
    return tried[-1].step, tried[-1].failed, tried[-1].evidence


def test_all_the_way(pki: Path) -> None:
    with served(over(broker(pki))) as port:
        assert ended(probe(f"localhost:{port}", own(pki))) == (Step.CLIENT, False, "accepted")


def test_without_an_identity_it_ends_at_the_open_port(pki: Path) -> None:
    with served(over(broker(pki))) as port:
        assert ended(probe(f"127.0.0.1:{port}", None)) == (Step.CONNECT, False, f"port {port} is open")


def test_a_name_that_nobody_has() -> None:
    step, failed, said = ended(probe("broker.invalid:8883", None))
    assert (step, failed) == (Step.RESOLVE, True)
    assert said.startswith("broker.invalid: ")


def test_nobody_listens() -> None:
    port = free_port()
    assert ended(probe(f"127.0.0.1:{port}", None)) == (Step.CONNECT, True, f"127.0.0.1:{port}: Connection refused")


def test_no_tls_is_spoken(pki: Path) -> None:
    with served(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")) as port:
        step, failed, _ = ended(probe(f"localhost:{port}", own(pki)))
        assert (step, failed) == (Step.HANDSHAKE, True)


def test_only_an_old_tls_is_spoken(pki: Path) -> None:
    old = broker(pki)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with served(over(old)) as port:
        step, failed, said = ended(probe(f"localhost:{port}", own(pki)))
    assert (step, failed) == (Step.HANDSHAKE, True)
    assert "protocol version" in said


def test_another_sites_server(pki: Path, stranger: Path) -> None:
    with served(over(broker(stranger))) as port:
        step, failed, said = ended(probe(f"localhost:{port}", own(pki)))
    assert (step, failed) == (Step.CHAIN, True)
    assert "certificate" in said


def test_another_name(pki: Path) -> None:
    with served(over(broker(pki)), "127.0.0.2") as port:
        step, failed, said = ended(probe(f"127.0.0.2:{port}", own(pki)))
    assert (step, failed) == (Step.NAME, True)
    assert "127.0.0.2" in said


def test_the_server_does_not_take_our_certificate(pki: Path, stranger: Path) -> None:
    with served(over(broker(pki))) as port:
        step, failed, said = ended(probe(f"localhost:{port}", own(stranger, ca=pki)))
    assert (step, failed) == (Step.CLIENT, True)
    assert "alert" in said
