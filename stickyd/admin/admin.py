"""
The admin endpoint and the agent check as a service, which ends after the one that it shows.
"""

from __future__ import annotations

import socket
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.logger import Logger
from typing_extensions import override

from stickyd import __version__
from stickyd.admin.admin_token import new_token, token_in
from stickyd.admin.agent import AgentFactory
from stickyd.admin.broadcast import Broadcast
from stickyd.admin.guard import Guard
from stickyd.admin.listening import close_at, listen_at, shown
from stickyd.errors import ListenError, OperatorError
from stickyd.settings.admin_place import parse_admin_place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IListeningPort

    from stickyd.admin.site import AdminSite
    from stickyd.admin.view import AdminView
    from stickyd.log.journal import Journal
    from stickyd.settings import Settings
    from stickyd.settings.admin_place import AdminPlace

#: What the state of a primary that replaces itself calls each.
ADMIN, AGENT = "admin", "agent_check"


class Admin(Service):
    """
    Answers, from the start of the service beside it to its end.

    :ivar token: for the dashboard.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        view: AdminView,
        journal: Journal,
        inherited: Mapping[str, Any] | None = None,
    ) -> None:
        """
        :param journal: the latest events.
        :param inherited: what :meth:`dump_state` of a former self gave, among other things.
        :raises OperatorError: if the file of the token is not what it should be.
        """
        self._reactor = reactor
        self._settings = settings
        self._view = view
        self._former: dict[str, Any] = dict((inherited or {}).get("asked", {}))
        self._upgraded = inherited is not None
        self._open: dict[str, tuple[str, socket.socket, IListeningPort]] = {}
        self._journal = journal
        self._broadcast: Broadcast | None = None
        self.token = ""
        if settings.admin:
            self.token = self._choose_token()

    def _choose_token(self) -> str:
        path = self._settings.admin_token_file
        try:
            return token_in(path) if path else self._former.get("token") or new_token()
        except OperatorError as problem:
            if not self._upgraded:
                raise
            self._log.error("{problem}", event="admin.not-open", problem=problem)
            return self._former.get("token") or new_token()

    @override
    def startService(self) -> None:
        """
        Listen.

        :raises ListenError: if that cannot be.  A primary that has replaced itself logs that
            instead, as it has clients.
        """
        super().startService()
        settings = self._settings
        for name, option, text, begin in (
            (ADMIN, "--admin", settings.admin, self._serve),
            (AGENT, "--agent-check", settings.agent_check, self._check),
        ):
            former = self._former.pop(name, None)
            try:
                self._begin(name, option, text, former, begin)
            except ListenError as problem:
                if not self._upgraded:
                    raise
                self._log.error("{problem}", event="admin.not-open", problem=problem)

    def _begin(
        self,
        name: str,
        option: str,
        text: str,
        former: Mapping[str, Any] | None,
        begin: Callable[[AdminPlace, socket.socket], Any],
    ) -> None:
        """
        :param text: the setting.
        :param former: the setting and the socket of before an upgrade.
        """
        sock = None if former is None else socket.socket(fileno=former["descriptor"])
        if sock is not None and former is not None and former["text"] != text:
            close_at(sock)
            sock = None
        if not text:
            return
        place = parse_admin_place(option, text, self._settings.admin_public == "on")
        if sock is None:
            sock = listen_at(f"{option} {text}", place)
        sock.setblocking(False)
        sock.set_inheritable(False)
        factory = begin(place, sock)
        port = self._reactor.adoptStreamPort(sock.fileno(), sock.family, factory)
        self._open[name] = text, sock, port

    def _serve(self, place: AdminPlace, sock: socket.socket) -> AdminSite:
        # Not above: twisted.web is 8 MiB of a primary, and only this needs it.
        from stickyd.admin.resources import Pages, make_root
        from stickyd.admin.site import AdminSite

        number = 0 if place.path else sock.getsockname()[1]
        guard = Guard(place, self._settings.admin_host, self.token, number)
        self._broadcast = Broadcast(self._view, self._journal)
        root = make_root(Pages(self._view, guard, self._broadcast), guard, self._metrics())
        url = place.path or f"http://{shown(place.host, number)}/"
        self._log.info("Metrics, health and dashboard at {url}", event="admin.open", url=url)
        if not guard.trusts_all and not self._upgraded:
            said = self._settings.admin_token_file
            self._log.info(
                "The dashboard's token {told}",
                event="admin.token",
                told=f"is in {said}" if said else f"for this run: {url}?token={self.token}",
            )
        return AdminSite(root, self._reactor)

    def _metrics(self) -> Callable[[Any], bytes | Deferred[bytes]]:
        if find_spec("prometheus_client") is None:
            self._log.warn(
                "There are no metrics without prometheus_client: pip install 'stickyd[metrics]'",
                event="admin.no-metrics",
            )
            return _no_metrics
        # The same.
        from stickyd.admin.bus_exposition import BusCollector
        from stickyd.admin.exposition import AppCollector, FleetCollector, VersionCollector, expose
        from stickyd.admin.scrape import Scrapes

        collectors = (
            FleetCollector(self._view),
            BusCollector(self._view.bus),
            VersionCollector(__version__),
            AppCollector(self._view.figures.application),
        )

        scrapes = Scrapes(self._view.hear_application, lambda kind: expose(collectors, kind))

        def give(written: tuple[bytes, str], request: Any) -> bytes:
            text, kind = written
            request.setHeader("Content-Type", kind)
            return text

        def answer(request: Any) -> Deferred[bytes]:
            accepted = b",".join(request.requestHeaders.getRawHeaders(b"Accept", []))
            return scrapes.ask(accepted.decode("latin-1")).addCallback(give, request)

        return answer

    def _check(self, place: AdminPlace, sock: socket.socket) -> AgentFactory:
        number = 0 if place.path else sock.getsockname()[1]
        self._log.info(
            "HAProxy's agent-check is answered at {where}",
            event="admin.agent-open",
            where=place.path or shown(place.host, number),
        )
        return AgentFactory(lambda: self._view.health().agent_line, self._reactor)

    def dump_state(self) -> dict[str, Any]:
        """
        The listening sockets as JSON can carry them, for a primary that replaces itself.
        """
        told: dict[str, Any] = {
            name: {"text": text, "descriptor": sock.fileno()}
            for name, (text, sock, _) in self._open.items()
        }
        return {"asked": {"token": self.token, **told}} if told else {}

    @override
    def stopService(self) -> None:
        """
        Answer no more.  To be called when what is shown has stopped.
        """
        super().stopService()
        if self._broadcast is not None:
            self._broadcast.stop()
            self._broadcast = None
        for _, sock, port in self._open.values():
            port.stopListening()
            close_at(sock)
        self._open.clear()


def _no_metrics(request: Any) -> bytes:
    from stickyd.admin.leaf import as_text

    request.setResponseCode(501)
    return as_text(request, "there are no metrics without: pip install 'stickyd[metrics]'\n")
