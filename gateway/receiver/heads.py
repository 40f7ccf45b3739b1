"""The last bundle of each lane that a store has of a gateway: where a restored box's history goes on."""

from gateway.envelope.layout import urgent_root
from gateway.errors import ConfigError
from gateway.model import Lane, Link
from gateway.receiver.archive import Archive


def heads(archive: Archive, gateway: str) -> dict[Lane, Link]:
    """By lane; a lane of which nothing is here is not in it. Of a history with forks, the branch that began last.

    Raises `ConfigError` for a gateway of which nothing is here.
    """
    ends = archive.ends(gateway)
    if not ends:
        raise ConfigError(f"{gateway}: the store has nothing of this gateway")
    before = {chain: predecessor for chain, predecessor, _ in ends}
    continued = set(before.values())
    found: dict[Lane, Link] = {}
    for chain, _, end in ends:
        if chain not in continued and end is not None:
            found[_lane(chain, before, urgent_root(gateway))] = end
    return found


def _lane(chain: bytes, before: dict[bytes, bytes | None], root: bytes) -> Lane:
    """Which lane a chain is of: that whose first chain it leads back to."""
    seen = {chain}
    at: bytes | None = chain
    while (at := before.get(at) if at else None) is not None and at not in seen:
        if at == root:
            return Lane.URGENT
        seen.add(at)
    return Lane.DATA
