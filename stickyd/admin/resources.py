"""
What the admin endpoint answers: which path, to whom, with what.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from typing_extensions import override

from stickyd.admin.view import explained
from stickyd.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from stickyd.admin.broadcast import Broadcast
    from stickyd.admin.guard import Guard
    from stickyd.admin.site import AdminSite
    from stickyd.admin.view import AdminView

    Page = Callable[[Any], bytes | Deferred[bytes]]

_FILES = Path(__file__).parent / "dashboard"

#: Kinds of files that the dashboard is made of.
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

#: What every answer says: nothing is kept, nothing is loaded from elsewhere, nobody frames us.
_FIELDS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not "no-referrer": a form's Origin would be "null" then.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Refused(Exception):
    """
    A request is answered with this status and text.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Leaf(Resource):
    """
    One path: who may ask, and who answers.
    """

    isLeaf = True
    _log = Logger()

    def __init__(self, guard: Guard, open_to_all: bool = False, **methods: Page) -> None:
        """
        :param open_to_all: whether no token is asked for.
        :param methods: what answers, by method.
        """
        super().__init__()
        self._guard = guard
        self._open_to_all = open_to_all
        self._methods = methods

    @override
    def render(self, request: Any) -> int:
        for name, value in _FIELDS.items():
            request.setHeader(name, value)
        answer: Any = self._answer  # of which mypy cannot say which kind it is
        answered: Deferred[bytes] = maybeDeferred(answer, request)
        gone: list[object] = []
        if not request.finished:
            request.notifyFinish().addErrback(gone.append)

        def finish(text: bytes) -> None:
            if gone or text is STREAMS:
                return
            if request.method != b"HEAD":
                request.setHeader("Content-Length", str(len(text)))
                request.write(text)
            request.finish()

        answered.addErrback(self._failed, request).addCallback(finish)
        return NOT_DONE_YET

    def _answer(self, request: Any) -> bytes | Deferred[bytes]:
        guard, host = self._guard, request.getHeader("host")
        objection = guard.objection_to_host(host)
        if objection:
            raise Refused(403, objection)
        method = request.method.decode("latin-1")
        page = self._methods.get("GET" if method == "HEAD" else method)
        if page is None:
            request.setHeader("Allow", ", ".join(self._methods))
            raise Refused(405, f"{method[:20]} cannot be done here")
        if method == "POST" or not self._open_to_all:
            origin, site = request.getHeader("origin"), request.getHeader("sec-fetch-site")
            objection = guard.objection_to_origin(host, origin, site)
            if objection:
                raise Refused(403, objection)
        if not (self._open_to_all or self._knows(request)):
            request.setHeader("WWW-Authenticate", 'Bearer realm="stickyd"')
            raise Refused(401, "the token is missing or wrong")
        return page(request)

    def _knows(self, request: Any) -> bool:
        return self._guard.knows(request.getHeader("authorization"), request.getHeader("cookie"))

    def _failed(self, failure: Failure, request: Any) -> bytes:
        problem = failure.value
        if isinstance(problem, Refused):
            status, text = problem.status, str(problem)
        elif failure.check(OperatorError) is not None:
            status, text = 409, failure.getErrorMessage()
        else:
            self._log.failure("The admin endpoint has failed", failure, event="admin.failed")
            status, text = 500, "the server has an error; its log says which"
        request.setResponseCode(status)
        return as_json(request, {"error": text})


#: What a page returns that goes on writing by itself.
STREAMS = b"(streams)"


def as_json(request: Any, value: object) -> bytes:
    """
    Answer with JSON.
    """
    request.setHeader("Content-Type", "application/json")
    return json.dumps(value).encode() + b"\n"


def as_text(request: Any, text: str) -> bytes:
    """
    Answer with text.
    """
    request.setHeader("Content-Type", "text/plain; charset=utf-8")
    return text.encode()


def read_json(request: Any) -> dict[str, Any]:
    """
    Read what a request brings.

    :raises Refused: if that is no JSON object, or is not said to be one: a form of another
        site's page cannot say so.
    """
    kind = (request.getHeader("content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "write Content-Type: application/json")
    try:
        value = json.loads(request.content.read())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refused(400, "the body is no JSON object")
    return value


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

    # the dashboard

    def index(self, request: Any) -> bytes:
        """
        The dashboard, or what asks for the token.
        """
        given = _token_in(request)
        if given:
            return self._log_in(request, given)
        known = self._guard.knows(request.getHeader("authorization"), request.getHeader("cookie"))
        if not known:
            request.setResponseCode(401)
        return read_file(request, "index.html" if known else "login.html")

    def login(self, request: Any) -> bytes:
        """
        Take a token.
        """
        return self._log_in(request, _token_in(request))

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
        if not site.stream(request.channel):
            request.setHeader("Retry-After", "10")
            raise Refused(503, "too many pages are open")
        last = request.getHeader("last-event-id") or "0"
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
        if isinstance(count, bool) or not isinstance(count, int):
            raise Refused(400, "slots: a whole number is wanted")
        return self._done(request, self._view.operations.resize(count))

    def _slot_in(self, request: Any) -> int:
        slot = read_json(request).get("slot")
        if isinstance(slot, bool) or not isinstance(slot, int) or slot < 0:
            raise Refused(400, "slot: the number of a slot is wanted")
        return slot

    def _done(self, request: Any, outcome: Deferred[str]) -> Deferred[bytes]:
        def answer(problem: str) -> bytes:
            if problem:
                raise Refused(409, problem)
            return as_json(request, {"done": True})

        return outcome.addCallback(answer)


def _token_in(request: Any) -> str:
    given: bytes = request.args.get(b"token", [b""])[0]
    return given.decode("utf-8", "replace")


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

    root = Resource()
    root.putChild(b"", Leaf(guard, True, GET=pages.index))
    root.putChild(b"login", Leaf(guard, True, POST=pages.login))
    for name in ("app.js", "style.css", "icon.svg"):
        root.putChild(name.encode(), file(name))
    root.putChild(b"metrics", Leaf(guard, True, GET=metrics))
    root.putChild(b"livez", Leaf(guard, True, GET=pages.livez))
    root.putChild(b"readyz", Leaf(guard, True, GET=pages.readyz))
    api = Resource()
    root.putChild(b"api", api)
    for name in ("status", "events"):
        api.putChild(name.encode(), Leaf(guard, GET=getattr(pages, name)))
    for name in ("explain", "drain", "undrain", "reload", "resize"):
        api.putChild(name.encode(), Leaf(guard, POST=getattr(pages, name)))
    return root
