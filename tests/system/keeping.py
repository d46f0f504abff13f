"""
Clients of an application that keeps their state in a dict: what each has seen.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPSConnection
from json import loads
from typing import TYPE_CHECKING

from tests.system.log import PATIENCE
from tests.system.placing import source_address

if TYPE_CHECKING:
    import ssl

    from typing_extensions import Self


class Player:
    """
    One client of :mod:`tests.system.keeping_apps`: it has an address, cookies and an id, and
    comes by a kept connection or by fresh ones.

    :ivar pids: who answered, each time.
    """

    def __init__(
        self,
        target: tuple[str, int],
        source: str = "127.0.0.1",
        *,
        keeps: bool = False,
        names: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """
        :param tls: how it speaks TLS, if it does.
        :param keeps: whether its connection is kept.
        :param names: a header that names it from the beginning; none by default.
        """
        self._target = target
        self._source = source
        self._keeps = keeps
        self._names = names
        self._tls = tls
        self._connection: HTTPConnection | None = None
        self.cookie = ""
        self.session = ""
        self.count = 0
        self.pids: list[int] = []

    def request(self, path: str = "/") -> tuple[int, bytes]:
        """
        Ask, on a fresh connection or on the kept one; take cookies and the id.
        """
        connection = self._connection or self._connect()
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if self.session:
            headers["X-Session"] = self.session
        if self._names:
            headers["X-Name"] = self._names
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        set_cookie = response.getheader("Set-Cookie")
        if set_cookie is not None:
            self.cookie = set_cookie.split(";")[0]
        self.session = self.session or response.getheader("X-Session", "")
        if self._keeps:
            self._connection = connection
        else:
            connection.close()
        return response.status, body

    def _connect(self) -> HTTPConnection:
        source = self._source, 0
        if self._tls is None:
            return HTTPConnection(*self._target, timeout=PATIENCE, source_address=source)
        return HTTPSConnection(
            *self._target, timeout=PATIENCE, source_address=source, context=self._tls
        )

    def ask(self) -> int:
        """
        Ask, and check that nothing is lost.

        :return: the pid of the worker that answered.
        """
        status, body = self.request()
        assert status == 200, f"{status} {body!r}, after {self.pids}"
        told = loads(body)
        assert told["count"] == self.count + 1
        self.count += 1
        self.pids.append(told["pid"])
        return int(told["pid"])

    def close(self) -> None:
        """
        Close the kept connection.
        """
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


def _go_on(player: Player) -> None:
    assert player.ask() == player.ask() == player.pids[0]


class Players:
    """
    All clients of a test, half of them on kept connections.  Use it in a ``with``.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """
        :param tls: how they speak TLS, if they do.
        """
        self._tls = tls
        self._all: list[Player] = []

    def begin(self, target: tuple[str, int], affinity: str, count: int) -> list[Player]:
        """
        Have so many more begin.

        :param affinity: by which they are told apart.
        """
        begun = []
        for _ in range(count):
            number = len(self._all)
            player = Player(
                target,
                source_address(number) if affinity == "ip" else "127.0.0.1",
                keeps=bool(number % 2),
                names=f"client {number}" if affinity.startswith("header") else "",
                tls=self._tls,
            )
            self._all.append(player)
            begun.append(player)
            player.ask()
        return begun

    @property
    def asked(self) -> int:
        """
        How many requests were answered with a count.
        """
        return sum(player.count for player in self._all)

    def go_on(self, at_once: int = 1) -> None:
        """
        Have each ask on, and check that it is answered by the worker that it began with.

        :param at_once: how many at a time.
        """
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(_go_on, self._all))

    def release(self) -> None:
        """
        Have the application be done with all of them.
        """
        for player in self._all:
            player.request("/release")
            player.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        for player in self._all:
            player.close()
