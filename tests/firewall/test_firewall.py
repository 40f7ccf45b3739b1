"""What a configuration lets through, and how it is written."""

import json
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from gateway.config import GatewayConfig, load
from gateway.errors import ConfigError
from gateway.firewall import (
    UNIT_ALLOWS,
    Address,
    Inbound,
    Outbound,
    beyond_unit,
    drop_in,
    inbound,
    name_servers,
    notes,
    outbound,
    ruleset,
)

SHIPPED = Path(__file__).parents[2] / "config" / "gateway.toml"
NAMES = {"mqtt.example": ["192.0.2.7", "192.0.2.8", "2001:db8::7"], "time.example": ["192.0.2.9"]}
Configure = Callable[[str], GatewayConfig]


def lookup(name: str) -> list[Address]:
    if name not in NAMES:
        raise ConfigError(f"{name} has no address now")
    return [ip_address(each) for each in NAMES[name]]


@pytest.fixture
def configured(tmp_path: Path) -> Configure:
    def configure(extra: str) -> GatewayConfig:
        path = tmp_path / "gateway.toml"
        path.write_text(
            '[gateway]\nid = "gw-001"\nstate_dir = "state"\n[uplink]\nendpoints = ["mqtt.example:8883"]\n' + extra
        )
        return load(path, GatewayConfig)

    return configure


def lines(config: GatewayConfig, *servers: str) -> list[str]:
    text = ruleset("gw-001", outbound(config, [ip_address(each) for each in servers]), inbound(config), lookup)
    return [line.strip() for line in text.splitlines() if "comment" in line]


def test_a_name_becomes_all_of_its_addresses_of_both_families(configured: Configure) -> None:
    found = [line for line in lines(configured("")) if "broker" in line]
    assert found == [
        'ip daddr { 192.0.2.7, 192.0.2.8 } tcp dport 8883 counter accept comment "broker mqtt.example"',
        'ip6 daddr { 2001:db8::7 } tcp dport 8883 counter accept comment "broker mqtt.example"',
    ]


def test_a_name_without_address_gives_no_ruleset_at_all(configured: Configure) -> None:
    config = configured('[firewall]\nntp = ["nowhere.example"]\n')
    with pytest.raises(ConfigError, match=r"nowhere\.example has no address"):
        lines(config)


def test_the_service_may_reach_what_the_box_may_but_time_servers_and_answers_who_scrapes(
    configured: Configure, tmp_path: Path
) -> None:
    config = configured(
        f"""[metrics]
listen = "0.0.0.0:9464"
tls_ca = "{tmp_path}/ca.crt"
tls_cert = "{tmp_path}/metrics.crt"
tls_key = "{tmp_path}/metrics.key"
[firewall]
ntp = ["time.example"]
dns = ["192.0.2.53"]
monitoring = ["198.51.100.0/24"]
ssh = ["203.0.113.0/24"]
"""
    )
    assert drop_in(outbound(config, []), inbound(config), lookup).splitlines() == [
        "[Service]",
        "IPAddressAllow=",
        "IPAddressAllow=localhost 192.0.2.53 192.0.2.7 192.0.2.8 198.51.100.0/24 2001:db8::7",
    ]


def test_hosts_outside_private_networks_are_told_as_the_unit_keeps_the_service_inside(configured: Configure) -> None:
    config = configured('[firewall]\ndns = ["10.0.0.53"]\noutbound = ["[fd00::1]:443", "192.0.2.9:443"]\n')
    assert beyond_unit(outbound(config, []), lookup) == ("mqtt.example", "192.0.2.9")
    unit = (SHIPPED.parents[1] / "systemd" / "iomt-gateway.service").read_text()
    allowed = unit.partition("\nIPAddressAllow=localhost ")[2].splitlines()[0].split()
    assert allowed == [str(each) for each in UNIT_ALLOWS if not each.is_loopback]


def test_enrolment_is_where_its_url_says(configured: Configure) -> None:
    config = configured('[identity]\nenrolment = "https://ca.example"\n')
    assert Outbound("enrolment", "ca.example", 443) in outbound(config, [])
    config = configured('[identity]\nenrolment = "https://[2001:db8::5]:8443"\n')
    assert Outbound("enrolment", "2001:db8::5", 8443) in outbound(config, [])


def test_name_servers_are_those_of_the_configuration_or_else_of_the_machine(configured: Configure) -> None:
    assert 'ip daddr { 192.0.2.53 } udp dport 53 counter accept comment "DNS 192.0.2.53"' in lines(
        configured(""), "192.0.2.53"
    )
    named = lines(configured('[firewall]\ndns = ["192.0.2.54"]\n'), "192.0.2.53")
    assert not any("192.0.2.53" in line for line in named)
    assert 'ip daddr { 192.0.2.54 } tcp dport 53 counter accept comment "DNS 192.0.2.54"' in named


def test_a_pool_of_time_servers_is_a_network(configured: Configure) -> None:
    config = configured('[firewall]\nntp = ["time.example", "0.0.0.0/0"]\n')
    found = [line for line in lines(config) if "NTP" in line]
    assert found == [
        'ip daddr { 192.0.2.9 } udp dport 123 counter accept comment "NTP time.example"',
        'ip daddr { 0.0.0.0/0 } udp dport 123 counter accept comment "NTP 0.0.0.0/0"',
    ]
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1/24 is no network"):
        lines(configured('[firewall]\nntp = ["192.0.2.1/24"]\n'))


TLS = '[metrics]\nlisten = "0.0.0.0:9464"\ntls_ca = "a"\ntls_cert = "b"\ntls_key = "c"\n'


def test_metrics_are_opened_to_the_monitoring_networks_alone_and_only_where_they_are_served(
    configured: Configure,
) -> None:
    firewall = '[firewall]\nmonitoring = ["192.0.2.64/26", "2001:db8::/64"]\n'
    (first, second) = inbound(configured(TLS + firewall))
    assert (first.purpose, str(first.network), first.port) == ("metrics", "192.0.2.64/26", 9464)
    assert str(second.network) == "2001:db8::/64"
    assert inbound(configured(firewall)) == (), "on loopback nobody has to come in"


def test_ssh_is_opened_to_whom_the_configuration_says(configured: Configure) -> None:
    config = configured('[firewall]\nssh = ["192.0.2.0/28"]\nssh_port = 2222\n')
    (found,) = inbound(config)
    assert isinstance(found, Inbound)
    assert 'ip saddr 192.0.2.0/28 tcp dport 2222 counter accept comment "SSH"' in lines(config)


def test_who_would_be_locked_out_is_told(configured: Configure) -> None:
    assert [note.split()[0] for note in notes(configured(TLS))] == [
        "firewall.ssh",
        "firewall.ntp",
        "firewall.monitoring",
    ]
    assert notes(configured('[firewall]\nssh = ["192.0.2.0/28"]\nntp = ["time.example"]\n')) == ()


def test_name_servers_on_the_machine_itself_do_not_leave_it() -> None:
    text = "# written by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch example\n"
    assert [str(each) for each in name_servers(text)] == ["192.0.2.53", "fe80::1"]


def test_the_command_tells_hosts_and_ports_as_json_and_an_unknown_name_with_the_way_out(tmp_path: Path) -> None:
    def command(*options: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "gateway.cli.gateway", "firewall", "print", "--config", str(path), *options]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)

    path = tmp_path / "gateway.toml"
    path.write_text(SHIPPED.read_text().replace('"localhost:8883"', '"mqtt.invalid:8883"'))
    told = json.loads(command("--json").stdout)
    assert told["outbound"][0] == {"purpose": "broker", "host": "mqtt.invalid", "port": 8883, "protocols": ["tcp"]}
    done = command()
    assert done.returncode == 2
    assert done.stderr.startswith("iomt-gateway: mqtt.invalid has no address now: ")
    assert done.stdout == ""
