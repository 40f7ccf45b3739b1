"""Configuration: the shipped files are right; a mistake is named by file and key."""

import re
import tomllib
from pathlib import Path

import pytest

from gateway.config import GatewayConfig, load
from gateway.errors import ConfigError
from gateway.receiver.config import ReceiverConfig

SHIPPED = Path(__file__).parents[1] / "config"


@pytest.fixture
def gateway_toml(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text((SHIPPED / "gateway.toml").read_text())
    return path


def test_the_shipped_files_are_right() -> None:
    assert load(SHIPPED / "gateway.toml", GatewayConfig).gateway.id == "gw-001"
    assert load(SHIPPED / "receiver.toml", ReceiverConfig).ingest.receive_maximum == 256


@pytest.mark.parametrize(
    ("name", "share", "nodes"), [("postgres", "", 0), ("shared", "workers", 0), ("jetstream", "", 3)]
)
def test_the_shipped_steps_to_a_cluster_are_right(name: str, share: str, nodes: int) -> None:
    config = load(SHIPPED / f"receiver-{name}.toml", ReceiverConfig)
    assert config.store.url.startswith("postgresql://worker@")
    assert (config.broker.share, len(config.jetstream.servers)) == (share, nodes)


@pytest.mark.parametrize(("name", "model"), [("gateway", GatewayConfig), ("receiver", ReceiverConfig)])
def test_the_shipped_files_show_every_key_with_its_default(
    name: str, model: type[GatewayConfig] | type[ReceiverConfig]
) -> None:
    text = (SHIPPED / f"{name}.toml").read_text()
    uncommented = re.sub(r"^# (?=[a-z_]+ = )", "", text, flags=re.MULTILINE)
    shown = tomllib.loads(uncommented)
    path = SHIPPED / f"{name}.toml"
    defaults = load(path, model).model_dump(mode="json")
    for section, keys in defaults.items():
        assert set(shown[section]) == set(keys), section
        for key, value in keys.items():
            if f"# {key} = " in text:
                assert shown[section][key] == value, f"{section}.{key}"


def test_a_retention_that_nothing_would_do_is_an_error(tmp_path: Path) -> None:
    text = (SHIPPED / "receiver.toml").read_text()
    (tmp_path / "receiver.toml").write_text(text.replace("# retention_days = 0", "retention_days = 40"))
    with pytest.raises(ConfigError, match=r"store: .*retention_days needs PostgreSQL"):
        load(tmp_path / "receiver.toml", ReceiverConfig)


def test_an_unknown_key_is_an_error_that_names_file_and_key(gateway_toml: Path) -> None:
    gateway_toml.write_text(gateway_toml.read_text() + "\ncolour = 1\n")
    with pytest.raises(ConfigError, match=r"gateway\.toml: log\.colour: Extra inputs"):
        load(gateway_toml, GatewayConfig)


def test_relative_paths_start_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "receiver.toml").write_text((SHIPPED / "receiver.toml").read_text())
    (tmp_path / "receiver.toml").symlink_to("site/receiver.toml")
    config = load(tmp_path / "receiver.toml", ReceiverConfig)
    assert config.receiver.registry == tmp_path / "site" / "registry.json"


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("uplink.endpoints.0", 'endpoints = ["localhost"]'),
        ("uplink.endpoints.0", 'endpoints = ["localhost:99999"]'),
        ("uplink.endpoints", "endpoints = []"),
    ],
)
def test_a_wrong_endpoint_is_named(gateway_toml: Path, key: str, line: str) -> None:
    gateway_toml.write_text(gateway_toml.read_text().replace('endpoints = ["localhost:8883"]', line))
    with pytest.raises(ConfigError, match=re.escape(key)):
        load(gateway_toml, GatewayConfig)


def test_a_gateway_id_with_a_dot_or_slash_is_refused(gateway_toml: Path) -> None:
    for wrong in ("a.b", "a/b", "", "x" * 65, "a+"):
        gateway_toml.write_text(gateway_toml.read_text().replace('"gw-001"', f'"{wrong}"'))
        with pytest.raises(ConfigError, match=r"gateway\.id"):
            load(gateway_toml, GatewayConfig)
        gateway_toml.write_text(gateway_toml.read_text().replace(f'"{wrong}"', '"gw-001"', 1))


def test_a_gateway_cannot_be_called_what_the_clouds_side_is_called(gateway_toml: Path) -> None:
    gateway_toml.write_text(gateway_toml.read_text().replace('"gw-001"', '"receiver"'))
    with pytest.raises(ConfigError, match=r"gateway\.id: .*is reserved"):
        load(gateway_toml, GatewayConfig)


def test_an_outbox_without_room_for_its_segments_is_refused(gateway_toml: Path) -> None:
    tight = "[outbox]\nsegment_bytes = 8_388_608\ncapacity_bytes = 16_777_216\n"
    gateway_toml.write_text(gateway_toml.read_text().replace("[outbox]\n", tight))
    with pytest.raises(ConfigError, match="fewer than eight segments"):
        load(gateway_toml, GatewayConfig)


@pytest.mark.parametrize("listen", ["0.0.0.0:9464", "192.0.2.1:9464", "[::]:9464", "gateway.example:9464"])
def test_metrics_leave_the_box_over_tls_alone(gateway_toml: Path, listen: str) -> None:
    text = gateway_toml.read_text().replace("[metrics]\n", f'[metrics]\nlisten = "{listen}"\n')
    gateway_toml.write_text(text)
    with pytest.raises(ConfigError, match=r"metrics: .*not on loopback"):
        load(gateway_toml, GatewayConfig)
    tls = 'tls_ca = "ca.crt"\ntls_cert = "metrics.crt"\n'
    gateway_toml.write_text(text.replace("[metrics]\n", "[metrics]\n" + tls))
    with pytest.raises(ConfigError, match=r"metrics: .*belong together"):
        load(gateway_toml, GatewayConfig)
    gateway_toml.write_text(text.replace("[metrics]\n", "[metrics]\n" + tls + 'tls_key = "metrics.key"\n'))
    here = gateway_toml.parent
    assert load(gateway_toml, GatewayConfig).metrics.tls == (
        here / "ca.crt",
        here / "metrics.crt",
        here / "metrics.key",
    )


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "[::1]:1", "localhost:1", "off"])
def test_on_loopback_metrics_need_no_tls(gateway_toml: Path, listen: str) -> None:
    gateway_toml.write_text(gateway_toml.read_text().replace("[metrics]\n", f'[metrics]\nlisten = "{listen}"\n'))
    assert load(gateway_toml, GatewayConfig).metrics.tls is None


def test_every_mistake_is_told_at_once(gateway_toml: Path) -> None:
    gateway_toml.write_text(gateway_toml.read_text().replace("[envelope]", "[envelope]\nheartbeat_s = 0\nepoch = 1"))
    with pytest.raises(ConfigError) as caught:
        load(gateway_toml, GatewayConfig)
    assert len(str(caught.value).splitlines()) == 2


def test_relative_paths_start_at_the_file(gateway_toml: Path) -> None:
    text = gateway_toml.read_text().replace("[identity]", '[identity]\nca = "ca.crt"')
    gateway_toml.write_text(text.replace("/var/lib/iomt-gateway", "state"))
    config = load(gateway_toml, GatewayConfig)
    assert config.identity.ca == gateway_toml.parent / "ca.crt"
    assert config.identity.tls_key == gateway_toml.parent / "state" / "identity" / "tls.key"


def test_a_missing_or_broken_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml", GatewayConfig)
    broken = tmp_path / "broken.toml"
    broken.write_text("[gateway\n")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(broken, GatewayConfig)
