from twisted.internet.defer import Deferred, succeed
from twisted.web.server import Site

from stickyd.worker.transport import SocketTransport


class ResourceHost:
    def __init__(self, root, reactor, readiness):
        self.readiness = readiness
        self.site = Site(root)
        self.site.log = lambda r: None
        self.open = set()
        self.waiting = None

    @property
    def connections(self):
        return len(self.open)

    def start(self):
        return succeed(None)

    def adopt(self, sock, peer, unread):
        transport = SocketTransport(self.readiness, sock, peer, unread)
        p = self.site.buildProtocol(transport.getPeer())
        self.open.add(p)
        old = p.connectionLost

        def lost(reason):
            self.open.discard(p)
            old(reason)
            if self.waiting and not self.open:
                w, self.waiting = self.waiting, None
                w.callback(None)

        p.connectionLost = lost
        transport.start(p)

    def drain(self):
        for p in list(self.open):
            p.transport.loseConnection()
        if not self.open:
            return succeed(None)
        self.waiting = Deferred()
        return self.waiting

    def abort(self):
        for p in list(self.open):
            p.transport.abortConnection()

    def stop(self):
        return succeed(None)
