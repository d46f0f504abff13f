"""
Applications that the tests have served.  These run in the workers.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any

from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from typing_extensions import override

from tests.system.gate import VARIABLE

if TYPE_CHECKING:
    from twisted.python.failure import Failure
    from twisted.web.server import Request

#: The body of ``held`` comes in two halves of this many bytes.
HALF = 300_000


def own_slot() -> int:
    """
    The slot of this worker, which stands in its command line; -1 in no worker, or one that
    was started as a spare.
    """
    arguments = sys.argv
    place = arguments[arguments.index("--slot") + 1] if "--slot" in arguments else "spare"
    return -1 if place == "spare" else int(place)


class Mirror(Resource):
    """
    Tells a client who it seems to be, in JSON: ``host``, ``port``, ``pid``, ``slot``.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> bytes:
        address: Any = request.getClientAddress()
        seen = {
            "host": getattr(address, "host", None),
            "port": getattr(address, "port", None),
            "kind": type(address).__name__,
            "pid": os.getpid(),
            "slot": own_slot(),
        }
        return json.dumps(seen).encode()


class _Waiting(Protocol):
    """
    Answers the second half once the gate opens.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._gone = False
        request.notifyFinish().addErrback(self._leave)

    def _leave(self, _: object) -> None:
        self._gone = True

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._gone:
            self._request.write(b"b" * HALF)
            self._request.finish()


class Held(Resource):
    """
    Answers the first half of the body at once and the second when the gate opens.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> int:
        from twisted.internet import reactor

        request.setHeader(b"content-length", b"%d" % (2 * HALF))
        request.write(b"a" * HALF)
        endpoint = UNIXClientEndpoint(reactor, os.environ[VARIABLE])
        connectProtocol(endpoint, _Waiting(request))
        return NOT_DONE_YET


class Spin(Resource):
    """
    Arrives at the gate and never returns to the reactor.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> bytes:
        with socket.socket(socket.AF_UNIX) as gate:
            gate.connect(os.environ[VARIABLE])
            while True:
                pass


def site() -> Resource:
    """
    All of them: ``/mirror``, ``/held``, ``/spin``.
    """
    root = Resource()
    root.putChild(b"mirror", Mirror())
    root.putChild(b"held", Held())
    root.putChild(b"spin", Spin())
    return root


mirror = Mirror()


class Begetter(Resource):
    """
    Starts a child in the way that the path says, and answers with the descriptors that it has
    beside the three standard ones, a line each.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> bytes:
        with tempfile.NamedTemporaryFile() as told:
            command = f"ls -l /proc/self/fd > {told.name}"
            if request.path == b"/system":
                os.system(command)
            elif request.path == b"/spawn":
                child = os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ)
                os.waitpid(child, 0)
            else:
                subprocess.run(["/bin/sh", "-c", command], close_fds=False, check=True)
            lines = told.read().decode().splitlines()[1:]
        found = [line.split()[-3:] for line in lines]
        # Its own is the one by which it reads the directory.
        return "".join(
            f"{number} {target}\n"
            for number, _, target in found
            if int(number) > 2 and not target.startswith("/proc/")
        ).encode()


begetter = Begetter()


class Never(Resource):
    """
    Answers no request, and says so.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> int:
        print("a request is held")  # noqa: T201 - read from the server's log
        return NOT_DONE_YET


never = Never()


class Printing(Resource):
    """
    Prints without end, in a thread, from ``/flood`` to ``/quiet``.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self._quiet = threading.Event()

    def _print(self) -> None:
        while not self._quiet.is_set():
            os.write(1, b"\n" * 1000)

    @override
    def render(self, request: Request) -> bytes:
        if request.path == b"/flood":
            threading.Thread(target=self._print, daemon=True).start()
        elif request.path == b"/quiet":
            self._quiet.set()
        return b"done"


printing = Printing()


async def asgi_site(scope: Any, receive: Any, send: Any) -> None:
    """
    An ASGI application that answers every request alike, once it has read it.
    """
    if scope["type"] == "lifespan":
        raise NotImplementedError
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    start = {"type": "http.response.start", "status": 200}
    await send({**start, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"alike"})


async def slow_to_end(scope: Any, receive: Any, send: Any) -> None:
    """
    An ASGI application that never answers, and takes three seconds to shut down.
    """
    if scope["type"] != "lifespan":
        print("a request is held")  # noqa: T201 - read from the server's log
        await asyncio.Event().wait()
    for act in ("startup", "shutdown"):
        await receive()
        if act == "shutdown":
            await asyncio.sleep(3)
            print("the application has shut down")  # noqa: T201 - the same
        await send({"type": f"lifespan.{act}.complete"})


def make_asgi_site() -> Any:
    """
    Make that application.
    """
    return asgi_site


class Echo(Protocol):
    """
    Says what it hears.
    """

    @override
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


echo = Factory.forProtocol(Echo)
