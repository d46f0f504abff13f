"""
The commands that only look.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from stickyd.errors import OperatorError
from stickyd.explain import Client
from stickyd.fleet.report import report_on
from stickyd.log.journal import MOST_EVENTS
from stickyd.operate.command import Argument, Command, IAsker, require_slot, slot, text, whole, yes
from stickyd.operate.status import server_status, status_of, workers_of
from stickyd.settings import FIXED
from stickyd.settings.session_url import SessionUrl
from stickyd.settings.settings import rules
from stickyd.settings.values import spelt

if TYPE_CHECKING:
    from stickyd.operate.primary import Primary


async def status(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    See :func:`stickyd.operate.status.status_of`.
    """
    return status_of(primary)


async def workers(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    Every process that has not ended, whatever part it plays.
    """
    members = list(primary.fleet.table.all_members())
    slots = zip(report_on(primary.fleet).slots, members, strict=True)
    return {
        "server": server_status(primary),
        "workers": [
            {"slot": report.index, **each}
            for report, member in slots
            for each in workers_of(primary, report, member)
        ],
    }


async def explain(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    Say who serves a client; the answer is a :class:`stickyd.explain.Explanation`.
    """
    headers = [_pair(header, ":", "header", "Name: value") for header in given["header"]]
    for cookie in given["cookie"]:
        _pair(cookie, "=", "cookie", "NAME=VALUE")
        headers.append(("Cookie", cookie))
    target = given["path"] + (f"?{given['query']}" if given["query"] else "")
    named = Client(given["address"], headers, target, given["sni"])
    found = primary.explain(named.with_more(Client.told_by(given["client"])))
    worker = found.worker
    return {
        "entry": found.entry,
        "key": found.key.hex(),
        "slot": found.slot,
        "worker": None if worker is None else {"pid": worker.pid, "state": worker.state},
        "reasons": list(found.reasons),
    }


def _pair(given: str, separator: str, what: str, form: str) -> tuple[str, str]:
    name, found, value = given.partition(separator)
    if not found or not name.strip():
        raise OperatorError(f"{what}: {given[:60]!r} is no {what}; write {form!r}")
    return name, value


async def events(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    The latest events; those that follow, too, until nobody wants to hear them any more.
    """
    index = given["slot"]

    def tell(event: dict[str, Any]) -> None:
        if index is None or event.get("slot") == index:
            asker.event(event)

    after = given["after"]
    events = primary.journal.events if after is None else primary.journal.after(after)
    kept = [event for event in events if index is None or event.get("slot") == index]
    if index is not None and not kept:
        require_slot(primary, index)
    first = len(kept) - given["last"] if after is None else 0
    for event in kept[max(0, first) :]:
        asker.event(event)
    if given["follow"]:
        closed: Deferred[None] = Deferred()
        asker.call_when_closed(primary.journal.watch(tell))
        asker.call_when_closed(lambda: closed.callback(None))
        await closed
    return {"events": len(kept)}


async def config(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    The settings in force; whatever is secret is not among them, or hidden.
    """
    settings, origins = primary.operations.settings, primary.origins()
    told = []
    for field in fields(settings):
        value, name = getattr(settings, field.name), spelt(field.name)
        default = value == field.default
        if rules()[name][0].metavar == "URL":
            scheme, _, rest = value.partition(":")
            value = SessionUrl(scheme, rest).shown
        origin = origins.get(name, "default" if default else "kept from an earlier start")
        if field.name == "workers" and primary.fleet.table.placed != (value or 0):
            told_slots = primary.fleet.table.placed
        else:
            told_slots = None
        told.append(
            {
                "name": name,
                "value": list(value) if isinstance(value, tuple) else value,
                "origin": origin,
                "default": default,
                "changes_by": FIXED.get(field.name, "reload"),
                **({} if told_slots is None else {"slots": told_slots}),
            }
        )
    return {"settings": told}


COMMANDS = (
    Command(
        "status",
        "The server on one screen: its slots, who serves them and how, and what was changed last.",
        status,
    ),
    Command(
        "workers",
        "Every worker process: those that serve, start, or finish what they have.",
        workers,
    ),
    Command(
        "explain",
        "Which slot and which worker serve a client, and why.",
        explain,
        (
            Argument("client", "an address, a cookie as in stickyd=VALUE, a header as in"
                " 'X-User: alice', or a path; several of them, as far as they are known", text,
                "CLIENT", optional=True, many=True),
            Argument("address", "the client's address; without one, a peer on a UNIX socket",
                text, "ADDRESS", default=""),
            Argument("header", "a header of the request, as in 'X-User: alice'; repeatable",
                text, "HEADER", many=True),
            Argument("cookie", "a cookie of the request, as in stickyd=VALUE; repeatable",
                text, "COOKIE", many=True),
            Argument("path", "the path of the request, with its query if there is one",
                text, "PATH", default="/"),
            Argument("query", "the query of the request", text, "QUERY", default=""),
            Argument("sni", "the server name of the TLS handshake", text, "NAME", default=""),
        ),
    ),
    Command(
        "events",
        "What has happened lately: deaths, restarts, reloads, refusals.",
        events,
        (
            Argument("slot", "only those of this slot", slot, "SLOT"),
            Argument("last", "how many of the latest (20 by default)", whole(0, MOST_EVENTS), "N",
                default=20),
            Argument("after", "all after the one of this id, as --json shows it, instead",
                whole(0, 2**53), "ID"),
            Argument("follow", "and those that follow, until Ctrl-C", yes, flag=True,
                default=False),
        ),
    ),
    Command(
        "top",
        "The same as status, again and again, until Ctrl-C.",
        status,
        (Argument("interval", "seconds between two looks (2 by default)", whole(1, 3600),
            "SECONDS", default=2),),
    ),
    Command(
        "config",
        "The settings in force, where each was given, and what changes it.",
        config,
    ),
)  # fmt: skip
