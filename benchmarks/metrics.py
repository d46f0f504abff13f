"""
What figures cost a request: ``python -m benchmarks.metrics``.

One worker's code serves requests of a kept connection over a real socket pair, in turns with the
counting that the primary reads and with one that does nothing.  The median of many short turns of
each, of the process' own CPU time, is compared; both are there for the whole run, so the machine's
moods are the same for both.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from twisted.web.resource import Resource
from typing_extensions import override

from stickyd.figures.request_counts import RequestCounts
from stickyd.net.readiness import readiness_of
from stickyd.serve.http.context import HTTPContext
from stickyd.serve.resource import ResourceHost
from stickyd.worker.__main__ import install_reactor
from stickyd.worker.handoffs import adopt

if TYPE_CHECKING:
    from collections.abc import Sequence

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: benchmark\r\nAccept: */*\r\n\r\n"


class Uncounted(RequestCounts):
    """
    Counts nothing.
    """

    @override
    def begin(self) -> int:
        return 1

    @override
    def end(self, status: int, begun_ns: int) -> None:
        pass


class Page(Resource):
    """
    Answers at once.
    """

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:  # noqa: N802 - Twisted's name
        return b"Hello\n"


class Served:
    """
    A connection to a host.
    """

    def __init__(self, reactor: Any, counts: RequestCounts) -> None:
        from stickyd.handoff.frame import Handoff

        host = ResourceHost(Page(), readiness_of(reactor), HTTPContext(reactor, counts=counts))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            sock, (name, port) = listener.accept()
        adopt(host, Handoff(sock.detach(), name, port, b"key"))
        self.client.setblocking(False)
        self._reactor = reactor

    def turn(self, requests: int) -> float:
        """
        Have so many requests answered, one after the other.

        :return: CPU seconds.
        """
        loop: Any = readiness_of(self._reactor)
        began = time.process_time()
        for _ in range(requests):
            self.client.send(REQUEST)
            answer = b""
            while not answer.endswith(b"Hello\n"):
                loop.call_soon(loop.stop)
                loop.run_forever()
                try:
                    answer += self.client.recv(65536)
                except BlockingIOError:
                    continue
        return time.process_time() - began


def main(arguments: Sequence[str]) -> int:
    """
    Measure, and say what it was.

    :return: the exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument("--turns", type=int, default=400)
    parser.add_argument("--requests", type=int, default=100)
    given = parser.parse_args(arguments)
    reactor = install_reactor("uvloop")
    counted, uncounted = Served(reactor, RequestCounts()), Served(reactor, Uncounted())
    for each in (counted, uncounted):
        each.turn(given.requests)
    pairs = []
    for turn in range(given.turns):
        # Whoever comes second finds warmer caches.
        if turn % 2:
            pairs.append((counted.turn(given.requests), uncounted.turn(given.requests)))
        else:
            without = uncounted.turn(given.requests)
            pairs.append((counted.turn(given.requests), without))
    with_us, without_us = (
        statistics.median(column) / given.requests * 1e6 for column in zip(*pairs, strict=True)
    )
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"a request takes {with_us:.2f} us with figures, {without_us:.2f} us without")
    print(f"ratio {ratio:.4f} (median of {given.turns} pairs of turns)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
