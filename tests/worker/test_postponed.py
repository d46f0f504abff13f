"""
Imports that a worker puts off, and finds when they are asked for.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from stickyd.worker.postponed import PostponedModule, PostponedName
from tests.tls_harness import write_certificate

if TYPE_CHECKING:
    from pathlib import Path

#: As a worker begins.
BEGIN = """
import sys
from stickyd.worker.postponed import import_network, import_web
import_network()
import_web()
late = ("twisted.protocols.tls", "twisted.internet.ssl", "twisted.web._http2", "OpenSSL", "h2")
"""

TLS = """
from twisted.internet import reactor
from twisted.internet.interfaces import IReactorSSL
from twisted.internet.protocol import ClientFactory, Factory, Protocol
assert not [name for name in late if name in sys.modules]
assert IReactorSSL.providedBy(reactor)

class Context:
    # Of PyOpenSSL alone, so that nothing of Twisted's is imported here.
    def getContext(self):
        from OpenSSL import SSL
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate_file(sys.argv[1])
        context.use_privatekey_file(sys.argv[2])
        return context

class Upgrading(Protocol):
    def dataReceived(self, data):
        if data == b"start":
            self.transport.write(b"ready")
            self.transport.startTLS(Context(), self.factory)
        else:
            print("server", self.transport.TLS, data.decode())
            self.transport.write(b"pong")

class Client(Protocol):
    def connectionMade(self):
        self.transport.write(b"start")
    def dataReceived(self, data):
        if data == b"ready":
            self.transport.startTLS(Context(), self.factory)
            self.transport.write(b"ping")
        else:
            print("client", self.transport.TLS, data.decode())
            port.stopListening()
            self.transport.loseConnection()
    def connectionLost(self, reason):
        over_ssl()

class Greeting(Protocol):
    def connectionMade(self):
        self.transport.write(b"hello over TLS")
        self.transport.loseConnection()

class Greeted(Protocol):
    def dataReceived(self, data):
        print("greeted:", data.decode())
        reactor.stop()

def client_factory(protocol):
    factory = ClientFactory.forProtocol(protocol)
    factory.noisy = False
    return factory

def over_ssl():
    secure = reactor.listenSSL(0, Factory.forProtocol(Greeting), Context(), interface="127.0.0.1")
    reactor.connectSSL("127.0.0.1", secure.getHost().port, client_factory(Greeted), Context())

port = reactor.listenTCP(0, Factory.forProtocol(Upgrading), interface="127.0.0.1")
reactor.connectTCP("127.0.0.1", port.getHost().port, client_factory(Client))
reactor.run()
"""

FOUND = """
from twisted.internet import posixbase, ssl, _newtls
from twisted.protocols import amp, tls
from twisted.web import http, _http2
assert not [name for name in late if type(sys.modules[name]).__name__ == "PostponedModule"]
assert amp.ssl.Certificate is ssl.Certificate and amp.ssl.supported
assert posixbase.tls.TLSMemoryBIOFactory is tls.TLSMemoryBIOFactory
assert amp.Certificate.load == ssl.Certificate.load
assert type(http.H2Connection()) is _http2.H2Connection
from twisted.internet.endpoints import serverFromString, TLSMemoryBIOFactory
assert TLSMemoryBIOFactory is tls.TLSMemoryBIOFactory
"""

ABSENT = """
import sys
sys.modules["OpenSSL"] = sys.modules["h2"] = None
"""


def run(program: str, *arguments: str) -> str:
    """
    Run a program in a process of its own.

    :return: what it printed.
    """
    command = [sys.executable, "-c", program, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_tls_works_when_it_is_asked_for(tmp_path: Path) -> None:
    """
    A process that has put TLS off serves and connects with ``startTLS``, ``listenSSL`` and
    ``connectSSL``.
    """
    told = run(BEGIN + TLS, *write_certificate(tmp_path, "both").split(",")).splitlines()
    assert told == ["server True ping", "client True pong", "greeted: hello over TLS"]


def test_who_imports_what_was_put_off_gets_it() -> None:
    """
    The modules themselves are what everybody else imports, and Twisted's names lead there.
    """
    run(BEGIN + FOUND)


def test_what_is_not_installed_is_not_promised() -> None:
    """
    Without OpenSSL and h2 Twisted finds out itself that it has neither TLS nor HTTP/2.
    """
    program = "from twisted.internet import posixbase\nfrom twisted.web import http\n"
    run(ABSENT + BEGIN + program + "assert posixbase.ssl is None and not http.H2_ENABLED")


def test_a_name_is_found_when_it_is_used() -> None:
    """
    A name that was put off is called, and has the attributes of the real one.
    """
    name = PostponedName("fractions", "Fraction")
    assert name(1, 2) == name.from_float(0.5)


def test_a_module_leads_to_the_real_one_afterwards() -> None:
    """
    A module that stood in gives the real names once it does not any more, and none that there
    is not.
    """
    module = PostponedModule("fractions")
    assert module.Fraction(1, 2) * 2 == 1
    assert not hasattr(module, "no_such_name")
    assert not hasattr(module, "__path__")
