# ruff: noqa: N802 - the camelCase names are Twisted's
# mypy: allow-untyped-calls
# (Twisted's TLS transport is not annotated.)
from __future__ import annotations

import shutil
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock

from stickyd.errors import SettingError
from stickyd.net.twisted_transport import SocketTransport
from stickyd.serve.tls.certificate import NoCommonProtocol
from stickyd.serve.tls.server import HTTP_1, HTTP_2, ServerTls
from stickyd.serve.tls.transport import HANDSHAKE_SECONDS, TlsTransport
from tests.tls_harness import TlsClient, client_context, write_certificate
from tests.transport_harness import (
    EVERYTHING,
    HalfRecorder,
    LoopDrive,
    Push,
    ReactorDrive,
    Recorder,
    answer_and_close,
    echo,
    make_drive,
    open_descriptors,
    settled_descriptors,
    socket_pair,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.transport_harness import CountingSocket, Drive


class Server:
    """
    TLS connections on a loop of the test's own.
    """

    def __init__(self, drive: Drive, clock: Any) -> None:
        self.drive = drive
        self.clock = clock
        self.transports: list[Any] = []
        self.sockets: list[CountingSocket] = []

    def connect(
        self, tls: ServerTls, protocol: Recorder, context: ssl.SSLContext, **options: Any
    ) -> TlsClient:
        """
        Serve a protocol to a new client, which has not shaken hands yet.
        """

        def build(transport: Any) -> Recorder:
            assert transport.getPeer() is peer
            self.transports.append(transport)
            return protocol

        server, client, peer = socket_pair()
        self.sockets.append(server)
        SocketTransport(self.drive.readiness, server, peer).start(tls.accept(build))
        return TlsClient(self.drive, client, context, **options)


@pytest.fixture(params=["uvloop", "epoll"])
def server(request: Any) -> Iterator[Server]:
    """
    Run the test on an asyncio reactor and on another.
    """
    drive = make_drive(request.param)
    if isinstance(drive, LoopDrive):
        reactor: Any = AsyncioSelectorReactor(drive.loop)
        yield Server(drive, reactor)
        reactor.removeReader(reactor.waker)
        reactor.waker.connectionLost(None)
    else:
        assert isinstance(drive, ReactorDrive)
        yield Server(drive, drive.reactor)
    drive.close()


def test_request_and_answer(server: Server, tmp_path: Path) -> None:
    """
    A request is answered over TLS, and the end is clean on both sides.
    """
    tls = ServerTls(server.clock, [write_certificate(tmp_path, "a", "a.test")])
    protocol = Recorder(answer_and_close)
    client = server.connect(tls, protocol, client_context())
    client.shake_hands()
    client.send(b"request")
    assert client.read(EVERYTHING) == b"head body"
    server.drive.until(lambda: protocol.lost)
    assert protocol.data == b"request"
    assert protocol.reason is ConnectionDone
    client.close()


def talking(server: Server, tmp_path: Path) -> tuple[Recorder, TlsClient]:
    """
    A protocol that has got a byte over TLS, and its client.
    """
    tls = ServerTls(server.clock, [write_certificate(tmp_path, "a", "a.test")])
    protocol = Recorder()
    client = server.connect(tls, protocol, client_context())
    client.shake_hands()
    client.send(b"x")
    server.drive.until(lambda: protocol.data)
    return protocol, client


def test_close_does_not_wait_for_the_client(server: Server, tmp_path: Path) -> None:
    """
    The descriptor is released though the client never answers our close_notify.
    """
    protocol, client = talking(server, tmp_path)
    protocol.transport.loseConnection()  # type: ignore[union-attr]
    server.drive.until(lambda: protocol.lost)
    assert server.sockets[0].calls[-1] == "close"
    assert protocol.reason is ConnectionDone
    client.close()


def test_answer_and_end_leave_together(server: Server, tmp_path: Path) -> None:
    """
    What is written in a turn, and the close_notify behind it, are one system call, also when no
    input has called for them.
    """
    protocol, client = talking(server, tmp_path)
    transport: Any = protocol.transport
    calls = server.sockets[0].calls
    before = len(calls)
    transport.write(b"head ")
    transport.writeSequence([b"bo", b"dy"])
    transport.loseConnection()
    transport.write(b"too late")
    assert client.read(EVERYTHING) == b"head body"
    server.drive.until(lambda: protocol.lost)
    assert [call for call in calls[before:] if call.startswith("send")] == ["sendmsg"]
    assert protocol.reason is ConnectionDone
    client.close()


def test_tickets_leave_with_an_answer_that_comes_at_once(server: Server, tmp_path: Path) -> None:
    """
    What the handshake ends with, the answer of the next turn, and the close_notify are one system
    call, after the one that the handshake began with; the client can resume the session.
    """

    def answer_soon(protocol: Recorder, data: bytes) -> None:
        server.drive.readiness.call_soon(answer_and_close, protocol, data)

    tls = ServerTls(server.clock, [write_certificate(tmp_path, "a", "a.test")])
    protocol = Recorder(answer_soon)
    client = server.connect(tls, protocol, client_context(ssl.TLSVersion.TLSv1_3))
    client.shake_hands_and_send(b"request")
    assert client.read(EVERYTHING) == b"head body"
    server.drive.until(lambda: protocol.lost)
    calls = server.sockets[0].calls
    assert len([call for call in calls if call.startswith("send")]) == 2
    assert client.tls.session is not None
    assert client.tls.session.has_ticket
    client.close()


def test_tickets_wait_for_nobody(server: Server, tmp_path: Path) -> None:
    """
    Where no answer comes, they leave all the same: they acknowledge the end of the handshake,
    without which a client may keep its request back.
    """
    tls = ServerTls(server.clock, [write_certificate(tmp_path, "a", "a.test")])
    protocol = Recorder()
    client = server.connect(tls, protocol, client_context(ssl.TLSVersion.TLSv1_3))
    client.shake_hands()
    calls = server.sockets[0].calls
    server.drive.until(lambda: len([call for call in calls if call.startswith("send")]) == 2)
    client.close()
    server.drive.until(lambda: protocol.lost)


def test_client_that_just_leaves(server: Server, tmp_path: Path) -> None:
    """
    An end without close_notify is reported as a lost connection.
    """
    protocol, client = talking(server, tmp_path)
    client.close()
    server.drive.until(lambda: protocol.lost)
    assert protocol.reason is ConnectionLost


def test_big_answer_through_a_producer(server: Server, tmp_path: Path) -> None:
    """
    Megabytes arrive whole; the producer is paused and resumed, and the end waits for it.
    """

    class Sending(Push):
        left = 100

        def resumeProducing(self) -> None:
            super().resumeProducing()
            self.send()

        def send(self) -> None:
            pauses = self.orders.count("pause")
            transport: Any = protocol.transport
            while self.left and self.orders.count("pause") == pauses:
                self.left -= 1
                transport.write(bytes(100_000))
            if not self.left:
                transport.unregisterProducer()

    protocol, client = talking(server, tmp_path)
    producer = Sending()
    transport: Any = protocol.transport
    transport.registerProducer(producer, True)
    transport.loseConnection()
    producer.send()
    assert client.read(EVERYTHING) == bytes(10_000_000)
    assert "pause" in producer.orders
    server.drive.until(lambda: protocol.lost)
    assert protocol.reason is ConnectionDone
    client.close()


def test_certificate_by_name(server: Server, tmp_path: Path) -> None:
    """
    A client gets the certificate for the host that it names, else the first.
    """
    tls = ServerTls(
        server.clock,
        [
            write_certificate(tmp_path, "first", "first.test"),
            write_certificate(tmp_path, "wild", "*.wild.test", "wild.test"),
            write_certificate(tmp_path, "exact", "Exact.wild.test", "exact.test"),
        ],
    )
    expected = {
        None: "first.test",
        "unknown.test": "first.test",
        "exact.test": "Exact.wild.test",
        "EXACT.test": "Exact.wild.test",
        "a.wild.test": "*.wild.test",
        "wild.test": "*.wild.test",
        "a.b.wild.test": "first.test",
        "test": "first.test",
    }
    for name, certificate in expected.items():
        client = server.connect(tls, Recorder(), client_context(), name=name)
        client.shake_hands()
        assert client.certificate_names()[0] == certificate
        client.close()
    server.drive.turns()


def test_common_name_counts_without_alternatives(server: Server, tmp_path: Path) -> None:
    """
    A certificate without alternative names is for the host in its subject.
    """
    pairs = [
        write_certificate(tmp_path, "first", "first.test"),
        write_certificate(tmp_path, "old", common="Old.test"),
    ]
    tls = ServerTls(server.clock, pairs)
    client = server.connect(tls, Recorder(), client_context(), name="old.test")
    client.shake_hands()
    old = ssl.PEM_cert_to_DER_cert(Path(pairs[1].split(",")[0]).read_text())
    assert client.tls.getpeercert(binary_form=True) == old
    client.close()
    server.drive.turns()


@pytest.mark.parametrize(
    ("spoken", "offered", "chosen"),
    [
        (HTTP_1, ["h2", "http/1.1"], "http/1.1"),
        (HTTP_2, ["http/1.1", "h2"], "h2"),
        (HTTP_2, ["http/1.1"], "http/1.1"),
        (HTTP_2, ["http/1.0"], "http/1.0"),
        (HTTP_2, [], None),
        ((), ["mqtt"], None),
    ],
)
def test_alpn(
    server: Server,
    tmp_path: Path,
    spoken: tuple[bytes, ...],
    offered: list[str],
    chosen: str | None,
) -> None:
    """
    Our preferred protocol among the client's is chosen, and the transport tells it; a
    server that says nothing of its protocols ignores what is offered.
    """
    tls = ServerTls(server.clock, [write_certificate(tmp_path, "a", "a.test")], spoken)
    context = client_context()
    if offered:
        context.set_alpn_protocols(offered)
    protocol = Recorder()
    client = server.connect(tls, protocol, context)
    client.shake_hands()
    assert client.tls.selected_alpn_protocol() == chosen
    client.send(b"x")
    server.drive.until(lambda: protocol.data)
    (transport,) = server.transports
    assert transport.negotiatedProtocol == (chosen.encode() if chosen else None)
    assert transport.getPeerCertificate() is None
    client.close()
    server.drive.until(lambda: protocol.lost)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("spoken", [HTTP_1, HTTP_2])
@pytest.mark.parametrize("name", ["a.test", "b.test", None])
def test_fault_41_alpn_without_overlap_is_refused(
    server: Server,
    tmp_path: Path,
    version: ssl.TLSVersion,
    spoken: tuple[bytes, ...],
    name: str | None,
) -> None:
    """
    Fault 41: a client that offers only what is not spoken here is told so (RFC 7301, 3.2),
    whichever certificate it gets.
    """
    pairs = [write_certificate(tmp_path, "a", "a.test"), write_certificate(tmp_path, "b", "b.test")]
    tls = ServerTls(server.clock, pairs, spoken)
    context = client_context(version)
    context.set_alpn_protocols(["spdy/3", "h3"])
    protocol = Recorder()
    client = server.connect(tls, protocol, context, name=name)
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        client.shake_hands()
    server.drive.until(lambda: protocol.lost)
    assert protocol.reason is NoCommonProtocol
    client.close()


@pytest.mark.parametrize(
    ("group", "taken"),
    [("prime256v1", True), ("secp384r1", True), ("secp521r1", False), ("X448", False)],
)
def test_fault_13_groups(server: Server, tmp_path: Path, group: str, taken: bool) -> None:
    """
    Fault 13: keys are exchanged by the groups of Mozilla's profile, and by no others.
    """
    tls = ServerTls(server.clock, [write_certificate(tmp_path, "a", "a.test")])
    context = client_context(ssl.TLSVersion.TLSv1_3)
    context.set_ecdh_curve(group)
    protocol = Recorder()
    client = server.connect(tls, protocol, context)
    if taken:
        client.shake_hands()
        client.send(b"x")
        server.drive.until(lambda: protocol.data)
    else:
        with pytest.raises(ssl.SSLError):
            client.shake_hands()
    client.close()
    server.drive.until(lambda: protocol.lost)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_fault_37_client_that_asks_no_more_is_answered(
    server: Server, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """
    Fault 37, over TLS: a client that says close_notify after its request still gets the
    answer, if the protocol can tell half an end from a whole one.
    """
    tls = ServerTls(server.clock, [write_certificate(tmp_path, "a", "a.test")])
    protocol = HalfRecorder()
    client = server.connect(tls, protocol, client_context(version))
    client.shake_hands()
    client.send(b"request")
    client.end_output()
    server.drive.until(lambda: "read lost" in protocol.events)
    server.drive.turns()
    assert not protocol.lost
    answer = b"answer" * 100_000
    (transport,) = server.transports
    transport.write(answer)
    transport.loseConnection()
    assert client.read(EVERYTHING) == answer
    server.drive.until(lambda: protocol.lost)
    assert (protocol.data, protocol.reason) == (b"request", ConnectionDone)
    client.close()


@pytest.mark.parametrize("half", [False, True])
def test_client_that_leaves_without_close_notify_has_gone(
    server: Server, tmp_path: Path, half: bool
) -> None:
    """
    The end of the plain connection alone is the end, as somebody else may have made it; so
    is a close_notify, for a protocol that knows no half ends.
    """
    tls = ServerTls(server.clock, [write_certificate(tmp_path, "a", "a.test")])
    protocol = HalfRecorder() if half else Recorder()
    client = server.connect(tls, protocol, client_context())
    client.shake_hands()
    client.send(b"request")
    server.drive.until(lambda: protocol.data)
    if half:
        client._socket.shutdown(socket.SHUT_WR)
    else:
        client.end_output()
    server.drive.until(lambda: protocol.lost)
    client.close()


def test_weak_clients_are_refused(server: Server, tmp_path: Path) -> None:
    """
    A client that knows only ciphers without forward secrecy gets no connection.
    """
    tls = ServerTls(server.clock, [write_certificate(tmp_path, "a", "a.test")])
    context = client_context(ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
    protocol = Recorder()
    client = server.connect(tls, protocol, context)
    with pytest.raises(ssl.SSLError):
        client.shake_hands()
    server.drive.until(lambda: protocol.lost)
    client.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["a.test", "b.test"])
def test_resumption(server: Server, tmp_path: Path, version: ssl.TLSVersion, name: str) -> None:
    """
    A client that comes back resumes its session, whichever certificate it got.

    With another server of the same certificates it cannot, and shakes hands in full.
    """
    pairs = [write_certificate(tmp_path, "a", "a.test"), write_certificate(tmp_path, "b", "b.test")]
    tls = ServerTls(server.clock, pairs)
    context = client_context(version)

    def visit(session: ssl.SSLSession | None) -> tuple[bool | None, ssl.SSLSession | None]:
        protocol = Recorder(echo)
        client = server.connect(tls, protocol, context, name=name, session=session)
        client.shake_hands()
        client.send(b"x")
        assert client.read(1) == b"x"
        result = client.tls.session_reused, client.tls.session
        client.close()
        server.drive.until(lambda: protocol.lost)
        return result

    reused, session = visit(None)
    assert not reused
    for _ in range(3):
        reused, session = visit(session)
        assert reused
    tls = ServerTls(server.clock, pairs)
    reused, session = visit(session)
    assert not reused


def test_one_file_for_both(tmp_path: Path) -> None:
    """
    Certificate and key may stand in one file.
    """
    certificate, key = write_certificate(tmp_path, "a", "a.test").split(",")
    both = tmp_path / "both.pem"
    both.write_bytes(Path(certificate).read_bytes() + Path(key).read_bytes())
    ServerTls(Clock(), [str(both)])


def test_refused_files(tmp_path: Path) -> None:
    """
    Each kind of bad file is refused with one line that says what, where and what instead.
    """
    certificate, key = write_certificate(tmp_path, "a", "a.test").split(",")
    _, other = write_certificate(tmp_path, "b", "b.test").split(",")
    _, locked = write_certificate(tmp_path, "c", "c.test", password=b"secret").split(",")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    cases = {
        f"{tmp_path}/none.pem": ("none.pem", "No such file", "write CERTIFICATE.pem"),
        f"{certificate},{tmp_path}/none.key": ("none.key", "No such file", "CERTIFICATE.pem"),
        f"{certificate},{other}": ("b.key", "does not belong", "name the key"),
        f"{nonsense},{key}": ("nonsense.pem", "no certificate", "-----BEGIN CERTIFICATE"),
        f"{certificate},{nonsense}": ("nonsense.pem", "no private key", "PEM"),
        certificate: ("a.pem", "no private key", "CERTIFICATE.pem,KEY.pem"),
        f"{certificate},{locked}": ("c.key", "encrypted", "openssl pkey"),
    }
    for pair, words in cases.items():
        with pytest.raises(SettingError) as caught:
            ServerTls(Clock(), [pair])
        line = str(caught.value)
        assert "\n" not in line
        for word in ("TLS", *words):
            assert word in line
    with pytest.raises(SettingError, match="no certificate"):
        ServerTls(Clock(), [])
    shutil.copy(key, certificate)
    with pytest.raises(SettingError, match="no certificate"):
        ServerTls(Clock(), [f"{certificate},{key}"])


def test_handshake_deadline(tmp_path: Path) -> None:
    """
    A client that does not shake hands in time is thrown out; one that did may stay.
    """
    clock = Clock()
    server = Server(ReactorDrive(), clock)
    before = settled_descriptors()
    tls = ServerTls(clock, [write_certificate(tmp_path, "a", "a.test")])
    silent, talking = Recorder(), Recorder()
    sleeper = server.connect(tls, silent, client_context())
    talker = server.connect(tls, talking, client_context())
    talker.shake_hands()
    talker.send(b"x")
    server.drive.until(lambda: talking.data)
    clock.advance(HANDSHAKE_SECONDS)
    server.drive.until(lambda: silent.lost)
    server.drive.turns()
    assert not talking.lost
    talker.close()
    sleeper.close()
    server.drive.until(lambda: talking.lost)
    assert open_descriptors() == before
    assert not clock.getDelayedCalls()
    server.drive.close()


def test_twisted_web_sees_a_secure_transport(tmp_path: Path) -> None:
    """
    The transport is an ISSLTransport, by which twisted.web tells https from http.
    """
    tls = ServerTls(Clock(), [write_certificate(tmp_path, "a", "a.test")])
    transport = tls.accept(lambda transport: Recorder())
    assert isinstance(transport, TlsTransport)
    assert ISSLTransport.providedBy(transport)
