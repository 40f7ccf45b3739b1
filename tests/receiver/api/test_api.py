"""The read API over mutual TLS, on each store: who may, what they get, and what is noted of it."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode

from gateway.control.audit import verify
from gateway.errors import AuditError, ConfigError, StoreError
from gateway.health import metrics
from gateway.identity.files import load_private_key
from gateway.lab.pki import make_dev_pki
from gateway.lab.site import free_port
from gateway.model import Batch, Quality, Record
from gateway.receiver.api.routes import openapi
from gateway.receiver.api.server import LOG, serve
from gateway.receiver.ca.issue import Issuer, revocation_list
from gateway.receiver.config import ReceiverConfig
from tests.receiver.conftest import NOW_MS, Box, Cloud

A, B = b"\x0a" * 16, b"\x0b" * 16
READER, VIEWER, STRANGER = "gw-reader", "gw-viewer", "gw-stranger"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    make_dev_pki(directory, [READER, VIEWER, STRANGER])
    return directory


@dataclass
class Client:
    """Asks as the owner of one certificate."""

    pki: Path
    port: int

    def session(self, name: str | None) -> requests.Session:
        session = requests.Session()
        session.trust_env = False  # a machine's own CA bundle would come first
        if name is not None:
            keys = self.pki / "gateways" / name
            session.cert = (str(keys / "tls.crt"), str(keys / "tls.key"))
        session.verify = str(self.pki / "ca.crt")
        return session

    @property
    def base(self) -> str:
        return f"https://localhost:{self.port}"

    async def get(
        self, path: str, *, who: str | None = READER, method: str = "GET", **headers: str
    ) -> requests.Response:
        def ask() -> requests.Response:
            with self.session(who) as session:
                return session.request(method, self.base + path, headers=headers, timeout=30)

        return await asyncio.to_thread(ask)

    async def json(self, path: str) -> Any:
        answer = await self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


def configuration(cloud: Cloud, pki: Path, *, state_dir: Path | None = None, **api: Any) -> ReceiverConfig:
    return ReceiverConfig.model_validate(
        {
            "receiver": {
                "state_dir": state_dir or cloud.directory,
                "registry": pki / "registry.json",
                "recipient_keys": (pki / "recipient.key",),
                "receipt_key": pki / "receipt.key",
                "key_list": pki / "keys.cbor",
            },
            "store": {"url": cloud.postgres.of("reader") if cloud.postgres else "sqlite"},
            "tls": {"ca": pki / "ca.crt", "cert": pki / "receiver.crt", "key": pki / "receiver.key"},
            "broker": {"endpoints": ("127.0.0.1:1",)},
            "api": {
                "listen": f"127.0.0.1:{free_port()}",
                "tls_ca": pki / "ca.crt",
                "tls_cert": pki / "broker.crt",
                "tls_key": pki / "broker.key",
                "readers": [READER],
                "viewers": [VIEWER],
                **api,
            },
        }
    )


@pytest.fixture
async def client(cloud: Cloud, pki: Path) -> AsyncIterator[Client]:
    config = configuration(cloud, pki)
    async with serve(config):
        yield Client(pki, int(config.api.listen.rpartition(":")[2]))


def log(cloud: Cloud) -> list[tuple[str, str, str]]:
    return [(each["who"], each["act"], each["outcome"]) for each, _ in verify(cloud.directory / LOG)]


def spot(value: int, at_ms: int, quality: Quality = Quality.GOOD, metric: int = metrics.GLUCOSE) -> Record:
    return Record("C0:00:00:00:00:01", metric, value, -1, at_ms, quality)


async def test_a_range_comes_page_by_page_with_every_digit(gw: Box, cloud: Cloud, client: Client) -> None:
    cloud.take(gw.message(Batch(A, tuple(spot(1000 + each, NOW_MS + each) for each in range(5)))))
    path = f"/v1/streams/{A.hex()}/readings"
    first = await client.json(f"{path}?limit=2&from_ms={NOW_MS + 1}")
    second = await client.json(f"{path}?limit=2&from_ms={NOW_MS + 1}&after={first['next']}")
    third = await client.json(f"{path}?limit=2&from_ms={NOW_MS + 1}&after={second['next']}")
    values = [each["value"] for page in (first, second, third) for each in page["readings"]]
    assert (values, third["next"]) == (["100.1", "100.2", "100.3", "100.4"], None)
    assert first["readings"][0] == {
        "device": "C0:00:00:00:00:01",
        "metric": "glucose",
        "mdc": metrics.GLUCOSE,
        "value": "100.1",
        "unit": "mg/dL",
        "time_ms": NOW_MS + 1,
        "received_ms": NOW_MS,
        "quality": "good",
        "backfilled": False,
        "sequence": None,
        "session": None,
    }
    until = await client.json(f"{path}?to_ms={NOW_MS + 2}&metric=glucose")
    assert [each["value"] for each in until["readings"]] == ["100.0", "100.1"]
    assert (await client.json(f"{path}?metric=heart%20rate"))["readings"] == []


async def test_latest_is_the_newest_value_of_each_metric_and_never_a_void_one(
    gw: Box, cloud: Cloud, client: Client
) -> None:
    cloud.take(
        gw.message(
            Batch(
                A,
                (
                    spot(1000, NOW_MS + 1),
                    spot(990, NOW_MS),
                    spot(5, NOW_MS + 2, Quality.VOID),
                    spot(7, NOW_MS + 3, Quality.NOT_PATIENT),
                    spot(720, NOW_MS, Quality.DOUBTFUL, metrics.HEART_RATE),
                ),
            )
        )
    )
    told = (await client.json(f"/v1/streams/{A.hex()}/latest"))["latest"]
    assert {(each["metric"], each["value"], each["quality"]) for each in told} == {
        ("glucose", "100.0", "good"),
        ("heart rate", "72.0", "doubtful"),
    }


async def test_completeness_tells_what_is_missing_and_what_the_gateway_explained(
    gw: Box, cloud: Cloud, client: Client
) -> None:
    messages = [gw.message(Batch(A, gw.records(2))) for _ in range(3)]
    cloud.take(messages[0], messages[2], gw.message(gw.gap(A, 3)))
    told = await client.json(f"/v1/streams/{A.hex()}/completeness")
    assert (told["records"], told["missing"], told["explained"]) == (4, 2, 3)
    assert [(each["first"], each["last"], each["cause"]) for each in told["gaps"]] == [(2, 3, None), (6, 8, "refused")]
    assert (told["first_ms"], told["last_ms"], told["gateway"]) == (NOW_MS, NOW_MS + 5, "gw-1")


async def test_streams_are_listed_page_by_page(gw: Box, other: Box, cloud: Cloud, client: Client) -> None:
    cloud.take(gw.message(Batch(A, gw.records(1)), Batch(B, gw.records(1))), other.tick(b"\x0c" * 16))
    first = await client.json("/v1/streams?limit=2")
    rest = await client.json(f"/v1/streams?limit=2&after={first['next']}")
    listed = {(each["stream"], each["gateway"]) for each in (*first["streams"], *rest["streams"])}
    assert listed == {(A.hex(), "gw-1"), (B.hex(), "gw-1"), ("0c" * 16, "gw-2")}
    assert rest["next"] is None


async def test_a_viewer_sees_completeness_and_no_value_and_a_stranger_nothing(
    gw: Box, cloud: Cloud, client: Client
) -> None:
    cloud.take(gw.message(Batch(A, gw.records(1))))
    stream = f"/v1/streams/{A.hex()}"
    assert (await client.get(f"{stream}/completeness", who=VIEWER)).status_code == 200
    for path in ("latest", "readings"):
        refused = await client.get(f"{stream}/{path}", who=VIEWER)
        assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")
    for path in ("/v1/streams", f"{stream}/latest", "/v1/openapi.json"):
        assert (await client.get(path, who=STRANGER)).status_code == 403
    with pytest.raises(requests.exceptions.ConnectionError):
        await asyncio.to_thread(
            requests.get, f"{client.base}/v1/streams", verify=str(client.pki / "ca.crt"), timeout=30
        )


async def test_who_is_on_the_revocation_list_reads_no_more(
    gw: Box, sqlite_cloud: Cloud, pki: Path, tmp_path: Path
) -> None:
    sqlite_cloud.take(gw.message(Batch(A, gw.records(1))))
    (tmp_path / "ca.crt").write_bytes((pki / "ca.crt").read_bytes())
    config = configuration(sqlite_cloud, pki, tls_ca=tmp_path / "ca.crt")
    now = dt.datetime.now(dt.UTC)
    key = load_private_key(pki / "ca.key")
    assert isinstance(key, EllipticCurvePrivateKey)
    issuer = Issuer(x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes()), key)
    reader = x509.load_pem_x509_certificate((pki / "gateways" / READER / "tls.crt").read_bytes())
    crl = revocation_list(issuer, [(reader.serial_number, now)], number=2, now=now, until=now + dt.timedelta(days=1))
    async with serve(config):
        client = Client(pki, int(config.api.listen.rpartition(":")[2]))
        assert (await client.get("/v1/streams")).status_code == 200
        (tmp_path / "ca.crl").write_bytes(crl.public_bytes(Encoding.PEM))
        assert (await client.get("/v1/streams")).status_code == 403
        assert (await client.get("/v1/streams", who=VIEWER)).status_code == 200


async def test_every_read_is_noted_before_it_is_answered(gw: Box, cloud: Cloud, client: Client) -> None:
    cloud.take(gw.message(Batch(A, gw.records(1))))
    await client.get(f"/v1/streams/{A.hex()}/latest")
    await client.get(f"/v1/streams/{A.hex()}/latest", who=VIEWER)
    await client.get(f"/v1/streams/{B.hex()}/completeness")
    await client.get("/v1/streams?limit=0")
    assert [(who, act, outcome.partition(":")[0]) for who, act, outcome in log(cloud)] == [
        (READER, "latest", "read"),
        (VIEWER, "latest", "refused"),
        (READER, "completeness", "refused"),
        (READER, "streams", "refused"),
    ]


async def test_what_cannot_be_noted_is_not_answered(gw: Box, cloud: Cloud, client: Client) -> None:
    cloud.take(gw.message(Batch(A, gw.records(1))))
    (cloud.directory / LOG).mkdir()
    answer = await client.get(f"/v1/streams/{A.hex()}/latest")
    assert (answer.status_code, answer.json()["error"]) == (503, "audit")


async def test_an_etag_spares_what_has_not_changed(gw: Box, cloud: Cloud, client: Client) -> None:
    cloud.take(gw.message(Batch(A, gw.records(1))))
    path = f"/v1/streams/{A.hex()}/readings"
    tag = (await client.get(path)).headers["ETag"]
    again = await client.get(path, **{"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    cloud.take(gw.message(Batch(A, gw.records(1))))
    changed = await client.get(path, **{"If-None-Match": tag})
    assert (changed.status_code, changed.headers["ETag"] != tag) == (200, True)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/v1/streams/0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A/latest", 404),
        (f"/v1/streams/{B.hex()}/latest", 404),
        (f"/v1/streams/{A.hex()}/latest?x=1", 422),
        (f"/v1/streams/{A.hex()}/readings?limit=1&limit=2", 422),
        (f"/v1/streams/{A.hex()}/readings?limit=10001", 422),
        (f"/v1/streams/{A.hex()}/readings?after=1.2", 422),
        (f"/v1/streams/{A.hex()}/readings?metric=mood", 422),
        (f"/v1/streams/{A.hex()}/readings?&&", 422),
    ],
)
async def test_a_wrong_question_is_told_what_is_wrong(
    gw: Box, cloud: Cloud, client: Client, path: str, status: int
) -> None:
    cloud.take(gw.message(Batch(A, gw.records(1))))
    answer = await client.get(path)
    assert (answer.status_code, bool(answer.json()["message"])) == (status, True)
    assert (await client.get("/v1/streams", method="POST")).status_code == 405


def cases() -> list[Case]:
    found: list[Case] = []
    for operation in schemathesis.openapi.from_dict(openapi()).get_all_operations():
        for mode in GenerationMode:

            def gather(case: Case) -> None:
                if case.path_parameters and len(found) % 2:
                    case.path_parameters["stream"] = A.hex()
                found.append(case)

            generated = given(operation.ok().as_strategy(mode))(gather)
            settings(max_examples=5, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))(
                generated
            )()
    return found


async def test_it_does_what_its_document_says(
    gw: Box, cloud: Cloud, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cloud.take(gw.message(Batch(A, gw.records(3))))
    calls = cases()

    def fuzz() -> set[int]:
        with client.session(READER) as session:
            ask = partial(Case.call_and_validate, base_url=client.base, session=session, verify=session.verify)
            return {ask(case).status_code for case in calls}

    assert {200, 404, 422} <= await asyncio.to_thread(fuzz)


async def test_nothing_half_configured_is_served(cloud: Cloud, pki: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[api\]: listen"):
        serve(configuration(cloud, pki, listen="off"))
    with pytest.raises(ValueError, match="listen needs tls_ca"):
        configuration(cloud, pki, tls_key="")
    if cloud.postgres is None:
        with pytest.raises(StoreError, match="cannot be read"):
            serve(configuration(cloud, pki, state_dir=cloud.directory / "empty"))
    (cloud.directory / LOG).write_text('{"no": 7}\n')
    with pytest.raises(AuditError, match="move it away"):
        serve(configuration(cloud, pki))
