"""The users of a RabbitMQ broker: its definitions file, in which every gateway is confined to its own topics.

RabbitMQ checks topics as routing keys, with dots for slashes, and queues by name: a client's is that of its id.
"""

import json
from collections.abc import Iterable

_OWN = (r"up\..+|status", r"down\.[^.]+")
"""What a gateway sends, and what is meant for it, below `v1.gw.GATEWAY`."""


def definitions(gateways: Iterable[str]) -> str:
    """The users receiver and `gateways`, without passwords: a certificate's common name is the user (JSON)."""
    sent, meant = _OWN
    users = {"receiver": ("[^.]+", meant, sent)} | {gateway: (gateway, sent, meant) for gateway in sorted(gateways)}
    permissions, topics = [], []
    for user, (owner, writes, reads) in users.items():
        queue = f"mqtt-subscription-{user}qos[01]"
        place = {"user": user, "vhost": "/"}
        use = rf"^({queue}|amq\.topic)$"
        permissions.append({**place, "configure": f"^{queue}$", "write": use, "read": use})
        keys = (rf"^v1\.gw\.{owner}\.({each})$" for each in (writes, reads))
        topics.append({**place, "exchange": "amq.topic", **dict(zip(("write", "read"), keys, strict=True))})
    nobody = {"password_hash": "", "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": []}
    content = {
        "vhosts": [{"name": "/"}],
        "users": [{"name": user, **nobody} for user in users],
        "permissions": permissions,
        "topic_permissions": topics,
    }
    return json.dumps(content, indent=1) + "\n"
