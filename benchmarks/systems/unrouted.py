"""
A worker of stickyd that listens by itself: no primary, and nothing asks who the client is.

It accepts and serves with the worker's own code, so what it costs is the limit of what any
way of placing clients can come down to.  ``SO_REUSEPORT``, so that several may share a port.

``TRUST_FORWARDED=1``: the client is who ``X-Forwarded-For`` says, for use behind a proxy.
"""

from __future__ import annotations

import os
import socket

from stickyd.handoff.frame import Handoff
from stickyd.net.accept_loop import AcceptLoop
from stickyd.settings import Settings
from stickyd.worker.__main__ import install_reactor


def listen(port: int) -> socket.socket:
    """
    Listen beside others on the same port.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(socket.SOMAXCONN)
    listener.setblocking(False)
    return listener


def main() -> None:
    """
    Serve the demonstration on the port that the environment names.
    """
    trust = ("127.0.0.1",) if os.environ.get("TRUST_FORWARDED") == "1" else ()
    settings = Settings(trust=trust)
    reactor = install_reactor(settings.worker_reactor)
    # Imported here, as the reactor must be installed before anything imports it.
    from stickyd.net.readiness import readiness_of
    from stickyd.serve.stickiness import Stickiness
    from stickyd.worker.build_host import build_host
    from stickyd.worker.capacity import Capacity
    from stickyd.worker.handoffs import adopt
    from stickyd.worker.server import session_registry

    told = Stickiness(settings.keys, None, lambda: 0, lambda *_: None, settings.networks)
    sessions = session_registry(settings, reactor)
    host = build_host(settings, reactor, sessions, stickiness=told if told.needed else None)
    capacity = Capacity(reactor, host, settings.window)

    def accepted(descriptor: int, name: str, client_port: int) -> None:
        adopt(host, Handoff(descriptor, name, client_port, b""))

    listener = listen(int(os.environ["PORT"]))
    loop = AcceptLoop(reactor, readiness_of(reactor), listener, accepted, capacity.window)
    capacity.watch(loop.start)
    capacity.count_own()
    host.start().addCallback(lambda _: loop.start())
    reactor.run()


if __name__ == "__main__":
    main()
