"""
What this worker is doing, for an operator who asks.
"""

from __future__ import annotations

import json
from hashlib import sha256
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stickyd.interfaces import IHost

#: How many rows are told; and how long they are together at most, in characters: an AMP value
#: has no more than 65,535 bytes.
MOST_ROWS = 200
MOST_CHARACTERS = 60_000


def tell(what: str, host: IHost) -> str:
    """
    Answer the primary.

    :param what: ``requests`` or ``clients``; nothing is told of anything else.
    :return: JSON, in ASCII: ``rows``, and of how many in all (``total``) they are the first.
    """
    rows = _ROWS[what](host) if what in _ROWS else []
    total = len(rows)
    rows = rows[:MOST_ROWS]
    while True:
        told = json.dumps({"rows": rows, "total": total})
        if len(told) <= MOST_CHARACTERS:
            return told
        rows = rows[: len(rows) // 2]


def _requests(host: IHost) -> list[dict[str, Any]]:
    """
    What is under way, the longest first.
    """
    now = perf_counter_ns()
    rows = [
        {
            "kind": each.kind,
            "seconds": round((now - each.begun_ns) / 1e9, 3) if each.begun_ns else None,
            "method": each.method[:20].decode("latin-1"),
            "path": each.path,
            "status": each.status,
            "client": "" if connection.handoff is None else connection.handoff.host,
        }
        for connection in host.served()
        for each in connection.under_way()
    ]
    return sorted(rows, key=lambda row: -(row["seconds"] or 0.0))


def _clients(host: IHost) -> list[dict[str, Any]]:
    """
    Who has most connections, by affinity key: of that only a digest is told, as it may be what
    signs its client in.
    """
    rows: dict[bytes, dict[str, Any]] = {}
    for connection in host.served():
        handoff = connection.handoff
        host_name = "" if handoff is None else handoff.host
        key = b"" if handoff is None else bytes(handoff.key)
        row = rows.setdefault(
            key or host_name.encode(),
            {
                "client": host_name,
                "key": sha256(key).hexdigest()[:12] if key else "",
                "connections": 0,
                "under_way": 0,
            },
        )
        row["connections"] += 1
        row["under_way"] += len(connection.under_way())
    return sorted(rows.values(), key=lambda row: (-row["connections"], -row["under_way"]))


_ROWS = {"requests": _requests, "clients": _clients}
