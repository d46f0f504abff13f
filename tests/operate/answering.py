"""
What the control socket answers, for tests.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed

from stickyd.ctl.asking import ask
from stickyd.operate.socket import ControlSocket
from tests.reactors import turn_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from twisted.internet.epollreactor import EPollReactor

    from stickyd.operate.command import IAsker


class Answering:
    """
    Keeps what was asked, and answers the same to each question.

    :ivar asked: the commands, with their arguments.
    """

    def __init__(self, answer: dict[str, Any] | Exception | Deferred[dict[str, Any]]) -> None:
        self.asked: list[tuple[object, object]] = []
        self.askers: list[IAsker] = []
        self.answer = answer

    def __call__(self, name: object, given: object, asker: IAsker) -> Deferred[dict[str, Any]]:
        self.asked.append((name, given))
        self.askers.append(asker)
        if isinstance(self.answer, Deferred):
            return self.answer
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)


YES: dict[str, Any] = {"yes": ["ü", 1]}


def in_thread(reactor: EPollReactor, call: Callable[[], Any]) -> Any:
    """
    Make a call that blocks while the reactor turns.
    """
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(call)
        turn_until(reactor, calling.done)
    return calling.result()


def serve(reactor: EPollReactor, path: str, run: Answering, **more: Any) -> ControlSocket:
    """
    Answer operators.
    """
    control = ControlSocket(reactor, path, run, **more)
    control.startService()
    return control


def asked(reactor: EPollReactor, path: str) -> dict[str, Any]:
    """
    Ask something.
    """
    answer: dict[str, Any] = in_thread(reactor, lambda: ask(path, "status", {}))
    return answer


def heard(reactor: EPollReactor, client: socket.socket, count: int) -> list[Any]:
    """
    Read so many lines.
    """
    client.setblocking(False)
    read = b""

    def come() -> bool:
        nonlocal read
        try:
            read += client.recv(65536)
        except BlockingIOError:
            pass
        return read.count(b"\n") >= count

    turn_until(reactor, come)
    return [json.loads(line) for line in read.splitlines()]
