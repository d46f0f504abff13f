"""
One path of the admin endpoint: who may ask, and how it is answered.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from typing_extensions import override

from stickyd.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from stickyd.admin.guard import Guard

    Page = Callable[[Any], bytes | Deferred[bytes]]

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
        guard, host = self._guard, field(request, "Host")
        objection = guard.objection_to_host(host)
        if objection:
            raise Refused(403, objection)
        method = request.method.decode("latin-1")
        page = self._methods.get("GET" if method == "HEAD" else method)
        if page is None:
            request.setHeader("Allow", ", ".join(self._methods))
            raise Refused(405, f"{method[:20]} cannot be done here")
        if method == "POST" or not self._open_to_all:
            origin, site = field(request, "Origin"), field(request, "Sec-Fetch-Site")
            objection = guard.objection_to_origin(host, origin, site)
            if objection:
                raise Refused(403, objection)
        if not (self._open_to_all or is_known(guard, request)):
            request.setHeader("WWW-Authenticate", 'Bearer realm="stickyd"')
            raise Refused(401, "the token is missing or wrong")
        return page(request)

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


class Tree(Resource):
    """
    Paths below a path, which is none itself.
    """

    def __init__(self, nothing: Leaf) -> None:
        """
        :param nothing: answers for what is not there.
        """
        super().__init__()
        self._nothing = nothing

    @override
    def getChild(self, path: bytes, request: Any) -> Resource:
        return self._nothing

    @override
    def render(self, request: Any) -> int:
        return self._nothing.render(request)


#: What a page returns that goes on writing by itself.
STREAMS = b"(streams)"


def field(request: Any, name: str) -> str | None:
    """
    Read a field of the head, whatever bytes it has.

    :raises Refused: if there are several, of which somebody before us may have taken another.
    """
    values: list[bytes] = request.requestHeaders.getRawHeaders(name.encode(), [])
    if len(values) > 1:
        raise Refused(400, f"the field {name} is there {len(values)} times")
    return values[0].decode("latin-1") if values else None


def is_known(guard: Guard, request: Any) -> bool:
    """
    Whether a request has the token.
    """
    return guard.knows(field(request, "Authorization"), field(request, "Cookie"))


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
    kind = (field(request, "Content-Type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "write Content-Type: application/json")
    try:
        value = json.loads(request.content.read())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refused(400, "the body is no JSON object")
    return value
