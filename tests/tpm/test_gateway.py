"""A gateway whose keys are in a TPM: enrols, delivers to mosquitto and a receiver that verifies, renews, is wiped."""

import asyncio
import json
import shutil
import socket
from pathlib import Path

import pytest

from gateway.config import GatewayConfig, load
from gateway.errors import IdentityError
from gateway.identity.renewing import renew
from gateway.identity.rung import open_key
from gateway.identity.tls import gateway_context, server_context
from gateway.identity.tpm import TpmKey
from gateway.lab.process import Child
from gateway.receiver.site import Site
from tests.identity.conftest import GATEWAY, Box, Clinic
from tests.identity.test_renewing import leaf, trusting
from tests.system.test_site import Running, command, place, site, until

__all__ = ["place", "site"]


@pytest.fixture
async def enrolled(box: Box, clinic: Clinic) -> Box:
    await asyncio.to_thread(box.enrolment(clinic.url).run, clinic.code(), trust=trusting(clinic))
    identity = box.config.identity.model_copy(update={"enrolment": clinic.url})
    return Box(GatewayConfig.model_validate({**box.config.model_dump(), "identity": identity.model_dump()}))


async def test_the_next_certificate_is_for_the_key_in_the_tpm(enrolled: Box) -> None:
    identity, first = enrolled.config.identity, leaf(enrolled)
    await asyncio.to_thread(renew, identity, GATEWAY)
    assert leaf(enrolled).serial_number != first.serial_number
    assert leaf(enrolled).public_key() == open_key(identity, identity.tls_key).public_key()
    for path in identity.tls_key.parent.iterdir():
        assert b"BEGIN PRIVATE KEY" not in path.read_bytes()


async def test_a_server_in_the_same_process_keeps_its_key_in_a_file(enrolled: Box, clinic: Clinic) -> None:
    server = server_context(*(clinic.site.ca / name for name in ("ca.crt", "enrolment.crt", "enrolment.key")))
    seen = asyncio.get_running_loop().create_future()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(writer.get_extra_info("peercert"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server) as listener:
        port = listener.sockets[0].getsockname()[1]

        def connect() -> None:
            tls = gateway_context(enrolled.config.identity)
            with (
                socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
                tls.wrap_socket(plain, server_hostname="localhost") as connection,
            ):
                assert connection.version() == "TLSv1.3"
                connection.recv(1)

        await asyncio.to_thread(connect)
        assert (await seen)["subject"] == ((("commonName", GATEWAY),),)


async def test_from_enrolment_to_the_certificate_of_erasure(site: Running, tcti: str) -> None:
    state = site.root.parent / "gw"
    fresh = ("--config", str(site.config), "--state-dir", str(state), "--keys", "tpm")
    status, said = await command("gateway.cli.gateway", *site.enrol, *fresh)
    assert status == 1
    assert "the TPM device:/dev/tpmrm0 refuses" in said, "this machine has a TPM"
    configure(site, state, tcti)
    config = ("--config", str(site.config))
    status, said = await command("gateway.cli.gateway", *site.enrol, *config)
    assert status == 0, said
    status, said = await command("gateway.cli.gateway", "identity", "show", *config)
    assert "Keys were made in this box's TPM and work only there" in said
    run = ("gateway.cli.gateway", "run", *config)
    registry = site.root / "receiver" / "registry.json"
    gateway = await Child.serve("gateway", *run, logs=Path("logs"))
    try:
        await until(lambda: site.events().count("start") == 1, "no record is verified and stored")
        status, said = await command("gateway.cli.gateway", "identity", "rotate-signer", *config)
        assert status == 0, said
        await gateway.stop()
        gateway = await Child.serve("gateway", *run, logs=Path("logs"))
        await until(lambda: site.events().count("start") == 2, "the next signer does not count")
    finally:
        await gateway.stop()
    assert [each["alg"] for each in json.loads(registry.read_text())["signers"]] == [-7, -7]
    identity = load(site.config, GatewayConfig).identity
    copy = Path(shutil.copy(identity.signing_key, site.root.parent / "copy"))
    TpmKey(copy.read_bytes(), tcti, copy)
    status, said = await command("gateway.cli.gateway", "wipe", *config, "--yes", "--discard-backlog")
    assert status == 0, said
    assert not state.exists()
    with pytest.raises(IdentityError, match=r"the TPM .* refuses"):
        TpmKey(copy.read_bytes(), tcti, copy)


def configure(site: Running, state: Path, tcti: str) -> None:
    """What a person writes who has another TPM than the shipped configuration expects."""
    url = site.enrol[site.enrol.index("--url") + 1]
    site.config.write_text(
        f"""
        [gateway]
        id = "{GATEWAY}"
        state_dir = "{state}"
        [identity]
        enrolment = "{url}"
        keys = "tpm"
        tpm = "{tcti}"
        [uplink]
        endpoints = {json.dumps(list(Site(site.root).config().site.endpoints))}
        [ble]
        adapter = "none"
        [metrics]
        listen = "off"
        """
    )
