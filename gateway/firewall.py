"""What may leave and enter a gateway's box, and the nftables ruleset that allows no more.

Names are looked up when the ruleset is written, never when it is loaded: nftables asks once, and a ruleset with a name
that nobody answers for is not loaded at all, which would leave a box that boots without DNS wide open.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from gateway.config import GatewayConfig
from gateway.errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Lookup = Callable[[str], Iterable[Address]]
"""The addresses of a name. Raises `ConfigError` if it has none."""

_HEAD = """\
#!/usr/sbin/nft -f
# What may leave and enter {gateway}, written by `iomt-gateway firewall print`. Load it with `nft -f FILE`.
# The addresses are those that the names had then. Write and load it again when they may have changed: the table is
# replaced at once, and connections that exist live on.

table inet iomt_gateway
delete table inet iomt_gateway
table inet iomt_gateway {{
\tchain output {{
\t\ttype filter hook output priority filter; policy drop;
\t\toifname "lo" accept
\t\tct state established,related accept
"""
_MIDDLE = """\
\t\tudp sport 68 udp dport 67 accept comment "DHCP"
\t\tudp sport 546 udp dport 547 accept comment "DHCPv6"
\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report } accept
\t\tcounter reject with icmpx type admin-prohibited comment "refused"
\t}
\tchain input {
\t\ttype filter hook input priority filter; policy drop;
\t\tiifname "lo" accept
\t\tct state invalid drop
\t\tct state established,related accept
"""
_TAIL = """\
\t\tudp sport 67 udp dport 68 accept comment "DHCP"
\t\tudp sport 547 udp dport 546 accept comment "DHCPv6"
\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } ip6 hoplimit 255 accept
\t\tcounter comment "refused"
\t}
\tchain forward {
\t\ttype filter hook forward priority filter; policy drop;
\t}
}
"""
UNIT_ALLOWS = tuple(
    map(
        ip_network,
        ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"),
    )
)
"""IPAddressAllow= of `systemd/iomt-gateway.service`: loopback and private networks."""
_COMMENT = 128
"""nftables takes no longer one."""


@dataclass(frozen=True, slots=True)
class Outbound:
    """A place that the box must reach; `host` is a name, an address or a network."""

    purpose: str
    host: str
    port: int
    protocols: tuple[str, ...] = ("tcp",)


@dataclass(frozen=True, slots=True)
class Inbound:
    """Whom the box answers by TCP."""

    purpose: str
    network: Network
    port: int


def outbound(config: GatewayConfig, name_servers: Sequence[Address]) -> tuple[Outbound, ...]:
    """Every place that a gateway so configured has to reach; `name_servers` are those that its machine asks."""
    brokers = [Outbound("broker", *_host_and_port(each)) for each in config.uplink.endpoints]
    enrolment = []
    if config.identity.enrolment:
        url = urlsplit(config.identity.enrolment)
        enrolment = [Outbound("enrolment", url.hostname or "", url.port or 443)]
    dns = [Outbound("DNS", str(each), 53, ("udp", "tcp")) for each in config.firewall.dns or name_servers]
    ntp = [Outbound("NTP", each, 123, ("udp",)) for each in config.firewall.ntp]
    further = [Outbound("further", *_host_and_port(each)) for each in config.firewall.outbound]
    return (*brokers, *enrolment, *dns, *ntp, *further)


def inbound(config: GatewayConfig) -> tuple[Inbound, ...]:
    """Everybody who may open a connection to a gateway so configured."""
    metrics = []
    if config.metrics.tls is not None and config.metrics.listen != "off":
        port = _host_and_port(config.metrics.listen)[1]
        metrics = [Inbound("metrics", each, port) for each in config.firewall.monitoring]
    ssh = [Inbound("SSH", each, config.firewall.ssh_port) for each in config.firewall.ssh]
    return (*metrics, *ssh)


def notes(config: GatewayConfig) -> tuple[str, ...]:
    """What a person should know before the ruleset is loaded."""
    told = []
    if not config.firewall.ssh:
        told.append("firewall.ssh is empty: nobody can log in from elsewhere once this is loaded")
    if not config.firewall.ntp:
        told.append("firewall.ntp is empty: no time server can be reached; has the box a clock of its own?")
    if config.metrics.tls is not None and not config.firewall.monitoring:
        told.append("firewall.monitoring is empty: nobody can ask for metrics from elsewhere")
    return tuple(told)


def ruleset(gateway: str, leaving: Iterable[Outbound], entering: Iterable[Inbound], lookup: Lookup) -> str:
    """The whole ruleset, to be loaded in place of the one before. Raises `ConfigError` for a name without address."""
    return "".join(
        (
            _HEAD.format(gateway=gateway),
            *(f"\t\t{line}\n" for each in leaving for line in _leave(each, lookup)),
            _MIDDLE,
            *(f"\t\t{line}\n" for line in map(_enter, entering)),
            _TAIL,
        )
    )


def drop_in(leaving: Iterable[Outbound], entering: Iterable[Inbound], lookup: Lookup) -> str:
    """What systemd then lets the service reach, and be reached from, in place of all private networks. Raises as above.

    Only the box itself asks time servers and answers SSH.
    """
    reached = {str(each) for place in leaving if place.purpose != "NTP" for each in _addresses(place.host, lookup)}
    answered = {str(who.network) for who in entering if who.purpose == "metrics"}
    return f"[Service]\nIPAddressAllow=\nIPAddressAllow={' '.join(('localhost', *sorted(reached | answered)))}\n"


def beyond_unit(leaving: Iterable[Outbound], lookup: Lookup) -> tuple[str, ...]:
    """Those hosts that the shipped unit does not let the service reach. Raises as above."""
    return tuple(place.host for place in leaving if not all(map(_in_unit, _addresses(place.host, lookup))))


def _in_unit(reached: Address | Network) -> bool:
    wanted = ip_network(reached)
    return any(wanted.version == each.version and wanted.subnet_of(each) for each in UNIT_ALLOWS)  # type: ignore[arg-type] # same version


def _leave(place: Outbound, lookup: Lookup) -> Iterator[str]:
    comment = f'comment "{f"{place.purpose} {place.host}"[:_COMMENT]}"'
    found = list(_addresses(place.host, lookup))
    for family, version in (("ip", 4), ("ip6", 6)):
        if members := ", ".join(sorted({str(each) for each in found if each.version == version})):
            for protocol in place.protocols:
                yield f"{family} daddr {{ {members} }} {protocol} dport {place.port} counter accept {comment}"


def _enter(who: Inbound) -> str:
    family = "ip" if who.network.version == 4 else "ip6"  # noqa: PLR2004 - IP's two versions
    return f'{family} saddr {who.network} tcp dport {who.port} counter accept comment "{who.purpose}"'


def _addresses(host: str, lookup: Lookup) -> Iterable[Address | Network]:
    try:
        return [ip_network(host) if "/" in host else ip_address(host)]
    except ValueError as error:
        if "/" in host:
            raise ConfigError(f"firewall: {host} is no network: {error}") from error
    return lookup(host)


def name_servers(text: str) -> tuple[Address, ...]:
    """Those of a `resolv.conf(5)` that are not on this machine."""
    words = [line.split() for line in text.splitlines() if line.startswith("nameserver")]
    found = [ip_address(word[1].partition("%")[0]) for word in words if len(word) > 1]
    return tuple(each for each in found if not each.is_loopback)


def _host_and_port(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)
