"""
Django's session middleware, with what it does not know of.
"""
# mypy: disable-error-code="import-untyped,no-any-unimported,misc"
# (Django has no annotations of its own.)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware as DjangosMiddleware
from django.http import HttpResponse
from typing_extensions import override

from stickyd.affinity.client_identity import IDENTITY, KNOWN, client_in
from stickyd.errors import SessionError, StoreAway
from stickyd.sessions.apps.refusal import refusal_of

if TYPE_CHECKING:
    from django.http import HttpRequest

    from stickyd.sessions.apps.refusal import Refusal


class SessionMiddleware(DjangosMiddleware):
    """
    Stands in the place of ``django.contrib.sessions.middleware.SessionMiddleware``.

    It tells sessions whose they are, so that they go along when their clients get another
    worker; answers a conflict with 409, and a store that is away with 503; and sets no cookie
    on a response to an id that the session had before.  Override :meth:`conflict` for a page
    of your own.
    """

    @override
    def process_request(self, request: HttpRequest) -> None:
        super().process_request(request)
        scope = getattr(request, "scope", None)
        request.session.keeps = True
        told = request.META if scope is None else scope
        request.session.identity = told.get(IDENTITY, b"")
        request.session.known = told.get(KNOWN, False)
        request.session.client = client_in(told)

    def process_exception(self, request: HttpRequest, exception: Exception) -> Any:
        """
        Answer what a view lets through that is not its fault.
        """
        refusal = refusal_of(exception)
        return None if refusal is None else self._answer(request, refusal)

    @override
    def process_response(self, request: HttpRequest, response: Any) -> Any:
        try:
            response = super().process_response(request, response)
        except (SessionError, StoreAway) as problem:
            refusal = refusal_of(problem)
            if refusal is None:
                raise
            return self._answer(request, refusal)
        finally:
            request.session.release()
        if request.session.borrowed:
            response.cookies.pop(settings.SESSION_COOKIE_NAME, None)
        return response

    def _answer(self, request: HttpRequest, refusal: Refusal) -> Any:
        if refusal.status == 409:
            return self.conflict(request)
        return _response_of(refusal)

    def conflict(self, request: HttpRequest) -> Any:
        """
        Answer a request whose changes could not be saved, as another request has changed the
        same meanwhile.

        :return: a response.
        """
        return HttpResponse(
            "Another request has changed this session meanwhile. Please try again.\n",
            content_type="text/plain; charset=utf-8",
            status=409,
        )


def _response_of(refusal: Refusal) -> Any:
    response = HttpResponse(refusal.body, status=refusal.status)
    for name, value in refusal.fields():
        response[name] = value
    return response
