"""
What the admin endpoint answers: which path, with what.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.web.http import parse_qs

from stickyd.admin.leaf import (
    STREAMS,
    Leaf,
    Refused,
    Tree,
    as_json,
    as_text,
    field,
    is_known,
    read_json,
)
from stickyd.admin.view import explained

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.web.resource import Resource

    from stickyd.admin.broadcast import Broadcast
    from stickyd.admin.guard import Guard
    from stickyd.admin.leaf import Page
    from stickyd.admin.site import AdminSite
    from stickyd.admin.view import AdminView

_FILES = Path(__file__).parent / "dashboard"

#: Kinds of files that the dashboard is made of.
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


#: What no number of slots comes near.
_ANY_SLOT = 1_000_000


class Pages:
    """
    The answers.
    """

    def __init__(self, view: AdminView, guard: Guard, broadcast: Broadcast) -> None:
        self._view = view
        self._guard = guard
        self._broadcast = broadcast

    # health

    def livez(self, request: Any) -> bytes:
        """
        The reactor turns, so we live.
        """
        return as_text(request, "ok\n")

    def readyz(self, request: Any) -> bytes:
        """
        Say whether clients should come; with ``?verbose`` why.
        """
        health = self._view.health()
        request.setResponseCode(200 if health.ready else 503)
        lines = ["ok" if health.ready else "not ready"]
        if b"verbose" in request.args or not health.ready:
            marks = {True: "+", False: "-"}
            lines = [f"[{marks[c.passes]}] {c.name}: {c.says}" for c in health.checks] + lines
        return as_text(request, "\n".join(lines) + "\n")

    def nothing(self, request: Any) -> bytes:
        """
        Say that there is nothing at a path.
        """
        raise Refused(404, "nothing is here: / is the dashboard, /metrics is for Prometheus")

    # the dashboard

    def index(self, request: Any) -> bytes:
        """
        The dashboard, or what asks for the token.
        """
        given = _token_in(request.args)
        if given:
            return self._log_in(request, given)
        known = is_known(self._guard, request)
        if not known:
            request.setResponseCode(401)
        return read_file(request, "index.html" if known else "login.html")

    def login(self, request: Any) -> bytes:
        """
        Take a token.
        """
        return self._log_in(request, _token_in(parse_qs(request.content.read())))

    def _log_in(self, request: Any, given: str) -> bytes:
        if not self._guard.is_token(given.strip()):
            request.setResponseCode(403)
            return read_file(request, "login.html")
        request.addCookie(
            self._guard.cookie, self._guard.token, path=b"/", httpOnly=True, sameSite="strict"
        )
        # The token must not stay in the address.
        request.redirect(b"/")
        request.setResponseCode(303)
        return b""

    def status(self, request: Any) -> bytes:
        """
        All of it, once.
        """
        return as_json(request, self._view.status())

    def events(self, request: Any) -> bytes:
        """
        All of it, as long as the client listens.
        """
        site: AdminSite = request.site
        if request.method == b"HEAD":
            return b""
        last = field(request, "Last-Event-ID") or "0"
        if not site.stream(request.channel):
            request.setHeader("Retry-After", "10")
            raise Refused(
                503,
                f"{site.most_streams} dashboards are open, which is the most that there may be;"
                " close some, or ask /api/status instead",
            )
        number = int(last) if last.isascii() and last.isdigit() and len(last) < 16 else 0
        self._broadcast.add(request, number, site.stream_ended)
        return STREAMS

    def explain(self, request: Any) -> bytes:
        """
        Say who serves a client.
        """
        client = read_json(request).get("client")
        if not isinstance(client, str) or len(client) > 4096:
            raise Refused(400, "client: write an address, or a cookie as NAME=VALUE")
        return as_json(request, explained(self._view, client))

    # changes

    def drain(self, request: Any) -> Deferred[bytes]:
        """
        Keep clients away from a slot.
        """
        slot = self._slot_in(request)
        return self._done(request, self._view.operations.drain(slot))

    def undrain(self, request: Any) -> Deferred[bytes]:
        """
        Let them come back.
        """
        slot = self._slot_in(request)
        return self._done(request, self._view.operations.undrain(slot))

    def reload(self, request: Any) -> Deferred[bytes]:
        """
        Read the configuration again, and replace all workers.
        """
        read_json(request)
        settings = self._view.reread()
        outcome = self._view.operations.reload(settings)
        return self._done(request, outcome.addCallback("; ".join))

    def resize(self, request: Any) -> Deferred[bytes]:
        """
        Change the number of slots.
        """
        count = read_json(request).get("slots")
        if isinstance(count, bool) or not isinstance(count, int) or abs(count) >= _ANY_SLOT:
            raise Refused(400, "slots: a whole number is wanted")
        return self._done(request, self._view.operations.resize(count))

    def _slot_in(self, request: Any) -> int:
        slot = read_json(request).get("slot")
        if isinstance(slot, bool) or not isinstance(slot, int) or not 0 <= slot < _ANY_SLOT:
            raise Refused(400, "slot: the number of a slot is wanted")
        return slot

    def _done(self, request: Any, outcome: Deferred[str]) -> Deferred[bytes]:
        def answer(problem: str) -> bytes:
            if problem:
                raise Refused(409, problem)
            return as_json(request, {"done": True})

        return outcome.addCallback(answer)


def _token_in(form: dict[bytes, list[bytes]]) -> str:
    return form.get(b"token", [b""])[0].decode("utf-8", "replace")


def read_file(request: Any, name: str) -> bytes:
    """
    Give a file of the dashboard.
    """
    path = _FILES / name
    request.setHeader("Content-Type", _KINDS[path.suffix])
    return path.read_bytes()


def make_root(pages: Pages, guard: Guard, metrics: Page) -> Resource:
    """
    The tree of all paths.
    """

    def file(name: str) -> Leaf:
        return Leaf(guard, True, GET=lambda request: read_file(request, name))

    nothing = Leaf(guard, True, GET=pages.nothing, POST=pages.nothing)
    root = Tree(nothing)
    root.putChild(b"", Leaf(guard, True, GET=pages.index))
    root.putChild(b"login", Leaf(guard, True, POST=pages.login))
    for name in ("app.js", "style.css", "icon.svg"):
        root.putChild(name.encode(), file(name))
    root.putChild(b"metrics", Leaf(guard, True, GET=metrics))
    root.putChild(b"livez", Leaf(guard, True, GET=pages.livez))
    root.putChild(b"readyz", Leaf(guard, True, GET=pages.readyz))
    api = Tree(nothing)
    root.putChild(b"api", api)
    for name in ("status", "events"):
        api.putChild(name.encode(), Leaf(guard, GET=getattr(pages, name)))
    for name in ("explain", "drain", "undrain", "reload", "resize"):
        api.putChild(name.encode(), Leaf(guard, POST=getattr(pages, name)))
    return root
