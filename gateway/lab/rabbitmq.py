"""RabbitMQ with the configuration as shipped, on loopback, for tests."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from string import Template

from gateway.errors import ConfigError
from gateway.lab.site import free_port
from gateway.receiver.rabbitmq import definitions

_READY_S = 120.0


def program() -> Path | None:
    """Where the server's own script lies; Debian's wrapper runs it for the account `rabbitmq` alone."""
    return next(iter(sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))), None)


@contextmanager
def running(pki: Path, place: Path, port: int, gateways: Iterable[str]) -> Iterator[None]:
    """Run a broker with the files in `pki`, whose own go to the new directory `place`; it listens when this yields.

    Raises `ConfigError` if it is not installed or does not start.
    """
    script, mapper = program(), shutil.which("epmd")
    if script is None or mapper is None:
        raise ConfigError("rabbitmq-server is not installed; on Debian: apt install rabbitmq-server")
    place.mkdir()
    (place / "definitions.json").write_text(definitions(gateways), encoding="utf-8")
    publish_lists(pki, place)
    values = {
        "LISTEN": f"127.0.0.1:{port}",
        "PKI": pki,
        "DEFINITIONS": place / "definitions.json",
        "CRLS": place / "crls",
    }
    for file in resources.files("config").joinpath("rabbitmq").iterdir():
        (place / file.name).write_text(Template(file.read_text(encoding="utf-8")).substitute(values), encoding="utf-8")
    names = free_port()
    environment = {
        **os.environ,
        "HOME": str(place),
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_CONF_ENV_FILE": str(place / "rabbitmq-env.conf"),
        "RABBITMQ_CONFIG_FILE": str(place / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(place / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(place / "mnesia"),
        "RABBITMQ_LOG_BASE": str(place),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_NODENAME": f"test-{port}@localhost",
        "RABBITMQ_DIST_PORT": str(free_port()),
    }
    with ExitStack() as undo:
        log = undo.enter_context((place / "log").open("wb"))
        for command in ((mapper, "-port", str(names), "-address", "127.0.0.1"), (str(script),)):
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            undo.callback(process.wait)
            undo.callback(process.terminate)
        deadline_s = time.monotonic() + _READY_S
        while b"completed with" not in (place / "log").read_bytes():  # it listens before it knows its users
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise ConfigError(f"rabbitmq does not start: {(place / 'log').read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        yield


def publish_lists(pki: Path, place: Path) -> None:
    """Let the broker have the revocation lists of `pki`, a file each, as `openssl rehash` names them."""
    directory = place / "crls"
    directory.mkdir(exist_ok=True)
    end = "-----END X509 CRL-----\n"
    for number, part in enumerate((pki / "ca.crl").read_text(encoding="ascii").split(end)):
        if part.strip():
            (directory / f"{number}.pem").write_text(part + end, encoding="ascii")
    subprocess.run(("openssl", "rehash", str(directory)), check=True, capture_output=True)
