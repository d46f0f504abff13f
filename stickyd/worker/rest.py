"""
What is left to do for a worker that finishes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.serve.under_way import REQUEST, UnderWay

if TYPE_CHECKING:
    from stickyd.interfaces import IHost

#: How many are named in a line of the log.
MOST_NAMED = 10


def count_rest(host: IHost) -> tuple[int, int]:
    """
    Count the requests whose responses have not begun, and what else is under way: responses that
    have, WebSockets, connections of other protocols.
    """
    rest = [each for connection in host.served() for each in connection.under_way()]
    waiting = sum(each.kind == REQUEST and not each.status for each in rest)
    return waiting, len(rest) - waiting


def name_rest(host: IHost) -> str:
    """
    Name what is under way, and whose it is, for the log; empty if nothing is.
    """
    named = [
        _named(each, "" if connection.handoff is None else connection.handoff.host)
        for connection in host.served()
        for each in connection.under_way()
    ]
    more = len(named) - MOST_NAMED
    return ", ".join(named[:MOST_NAMED]) + (f", and {more} more" if more > 0 else "")


def _named(what: UnderWay, client: str) -> str:
    method = what.method[:20].decode("ascii", "backslashreplace")
    words = [method if what.kind == REQUEST else what.kind, what.path]
    return " ".join(filter(None, [*words, client and f"of {client}"]))
