"""
The socket of ``--control``: who is answered there, and what becomes of the file.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from stickyd.control.commands import OPERATOR_VERSION, Explain
from stickyd.control.operator_client import ask
from stickyd.control.operator_socket import (
    MOST_OPERATORS,
    ControlSocket,
    listening_at,
    peer_uid,
)
from stickyd.errors import ListenError, OperatorError, SettingError
from stickyd.explain import Client, Explanation, Occupant
from tests.channels import open_sockets
from tests.reactors import private_reactor, turn_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from twisted.internet.epollreactor import EPollReactor

EXPLANATION = Explanation(
    "header:X-User", b"\xff\x00", 3, ("one", "two ü"), Occupant(42, "serving"), told=True
)


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    """
    Every socket is closed when its test is over.
    """
    before = open_sockets()
    yield
    assert open_sockets() == before


@pytest.fixture
def reactor() -> Iterator[EPollReactor]:
    """
    A reactor of the test's own.
    """
    with private_reactor() as reactor:
        yield reactor


@pytest.fixture
def path(tmp_path: Path) -> str:
    """
    Where to listen.
    """
    return str(tmp_path / "control")


class Answering:
    """
    Keeps who was asked about, and answers the same to each question.
    """

    def __init__(self, answer: Explanation | Exception = EXPLANATION) -> None:
        self.clients: list[Client] = []
        self.answer = answer

    def __call__(self, client: Client) -> Explanation:
        self.clients.append(client)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def in_thread(reactor: EPollReactor, call: Callable[[], Any]) -> Any:
    """
    Make a call that blocks while the reactor turns.
    """
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(call)
        turn_until(reactor, calling.done)
    return calling.result()


def serve(
    reactor: EPollReactor, path: str, explain: Callable[[Client], Explanation], **more: Any
) -> ControlSocket:
    """
    Answer operators.
    """
    control = ControlSocket(reactor, path, explain, **more)
    control.startService()
    return control


def test_question_and_answer_arrive_as_they_are(reactor: EPollReactor, path: str) -> None:
    """
    Whatever is said of the client, and told of it, is the same at the other end.
    """
    explain = Answering()
    control = serve(reactor, path, explain)
    client = Client(
        "192.0.2.7",
        (("X-User", " alice: a\udcff "), ("Cookie", "a=b")),
        "/ü?x=1",
        "example.org",
    )
    assert in_thread(reactor, lambda: ask(path, client)) == EXPLANATION
    (seen,) = explain.clients
    assert (seen.address, seen.target, seen.server_name) == ("192.0.2.7", "/ü?x=1", "example.org")
    assert seen.head.headers == client.head.headers
    for answer in (
        Explanation("", b"", None, ("refused",), None, told=True),
        Explanation("ip/32/64", b"k", 0, (), Occupant(0, "failed"), told=True),
    ):
        explain.answer = answer
        assert in_thread(reactor, lambda: ask(path, Client(""))) == answer
    control.stopService()


def test_mistake_is_told_in_its_own_words(reactor: EPollReactor, path: str) -> None:
    """
    What is wrong with the question comes back as the line that says so.
    """
    control = serve(reactor, path, Answering(SettingError("--address: no")))
    with pytest.raises(OperatorError, match=rf"^--control {path}: --address: no$"):
        in_thread(reactor, lambda: ask(path, Client("x")))
    control.stopService()


def test_another_version_is_told_so(
    reactor: EPollReactor, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Who asks by another version gets one line that names both; so does who asks something
    that the server has never heard of.
    """
    control = serve(reactor, path, Answering())
    with monkeypatch.context() as patch:
        patch.setattr("stickyd.control.operator_client.OPERATOR_VERSION", OPERATOR_VERSION + 1)
        with pytest.raises(
            OperatorError, match=r"the server speaks version 1 .* is version 2; ask"
        ):
            in_thread(reactor, lambda: ask(path, Client("")))
    with monkeypatch.context() as patch:
        patch.setattr(Explain, "commandName", b"Divine")
        with pytest.raises(OperatorError, match="the server does not understand the question"):
            in_thread(reactor, lambda: ask(path, Client("")))
    control.stopService()


def test_strangers_are_not_answered(reactor: EPollReactor, path: str) -> None:
    """
    Another user is told why, and logged, even if the file's mode lets it in; the owner and
    root are served.
    """
    explain = Answering()
    uids = [os.geteuid() + 1, 0, os.geteuid(), None]
    control = serve(reactor, path, explain, uid_of=lambda _: uids.pop(0))
    with capturedLogs() as events, pytest.raises(OperatorError, match=": not permitted: only the"):
        in_thread(reactor, lambda: ask(path, Client("")))
    assert formatEvent(events[-1]) == f"User {os.geteuid() + 1} may not ask at {path}"
    assert not explain.clients
    for _ in range(3):
        assert in_thread(reactor, lambda: ask(path, Client(""))) == EXPLANATION
    control.stopService()


def test_kernel_tells_who_asks() -> None:
    """
    The other end's user is known without asking it.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_uid(ours) == os.geteuid()


def test_file_is_the_owners_and_goes_at_the_end(reactor: EPollReactor, path: str) -> None:
    """
    Nobody else may read or write the file; after the stop there is none, and connections
    are closed.
    """
    control = serve(reactor, path, Answering())
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as idle:
        idle.connect(path)
        for _ in range(3):
            reactor.iterate(0)
        control.stopService()
        assert not os.path.exists(path)
        idle.setblocking(False)

        def ended() -> bool:
            try:
                return idle.recv(1) == b""
            except BlockingIOError:
                return False

        turn_until(reactor, ended)


def test_without_a_path_nothing_listens(reactor: EPollReactor) -> None:
    """
    It is off by default.
    """
    control = serve(reactor, "", Answering())
    assert control.dump_state() == {}
    control.stopService()


def test_daemon_takes_its_file_away_from_elsewhere(
    reactor: EPollReactor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A relative path is one of the directory in which the server was started.
    """
    monkeypatch.chdir(tmp_path)
    control = ControlSocket(reactor, "here", Answering())
    monkeypatch.chdir("/")
    control.startService()
    assert tmp_path.joinpath("here").is_socket()
    control.stopService()
    assert not tmp_path.joinpath("here").exists()


# what may be in the way


def test_file_of_a_dead_server_is_replaced(path: str) -> None:
    """
    Nobody answers on it, so it is in nobody's use.
    """
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    with listening_at(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_living_server_keeps_its_path(path: str) -> None:
    """
    Who answers is not replaced, be the queue so full that nobody gets in.
    """
    with ExitStack() as sockets:
        alive, *waiting = (sockets.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(10))
        alive.bind(path)
        alive.listen(0)
        with pytest.raises(ListenError, match="a server answers there already"):
            listening_at(path)
        for client in waiting:
            client.setblocking(False)
        assert errno.EAGAIN in [client.connect_ex(path) for client in waiting]
        with pytest.raises(ListenError, match="a server answers there already"):
            listening_at(path)


def test_other_files_are_left_alone(path: str, tmp_path: Path) -> None:
    """
    What is no socket is not ours to remove; nor is there a way to a missing directory, nor
    to a path that is too long.
    """
    with open(path, "w") as file:
        file.write("precious")
    with pytest.raises(ListenError, match="a file of that name, which is no socket"):
        listening_at(path)
    with open(path) as file:
        assert file.read() == "precious"
    with pytest.raises(ListenError, match="cannot listen there: No such file or directory"):
        listening_at(str(tmp_path / "missing" / "control"))
    with pytest.raises(ListenError, match="cannot listen there: AF_UNIX path too long"):
        listening_at(str(tmp_path / ("x" * 200)))


# a primary that replaces itself


def test_successor_goes_on_with_the_socket(reactor: EPollReactor, path: str) -> None:
    """
    The same socket is answered on, without a moment at which nobody listens.
    """
    former = serve(reactor, path, Answering(SettingError("former")))
    descriptor = os.dup(former.dump_state()["api"]["descriptor"])
    inode = os.stat(path).st_ino
    control = serve(reactor, path, Answering(), inherited={"api": {"descriptor": descriptor}})
    # An exec ends all of the former self but the descriptor.
    assert former._loop is not None
    former._loop.pause()
    assert former._socket is not None
    former._socket.close()
    assert os.stat(path).st_ino == inode
    assert not os.get_inheritable(descriptor)
    assert in_thread(reactor, lambda: ask(path, Client(""))) == EXPLANATION
    control.stopService()
    assert not os.path.exists(path)


@pytest.mark.parametrize("name", ["", "other"])
def test_successor_with_another_path_leaves_the_former(
    name: str, reactor: EPollReactor, path: str, tmp_path: Path
) -> None:
    """
    An upgrade that changes the setting, or takes it away, removes the former file.
    """
    descriptor = listening_at(path).detach()
    wanted = str(tmp_path / name) if name else ""
    control = serve(reactor, wanted, Answering(), inherited={"api": {"descriptor": descriptor}})
    assert not os.path.exists(path)
    if name:
        assert in_thread(reactor, lambda: ask(wanted, Client(""))) == EXPLANATION
    control.stopService()


def test_successor_serves_clients_though_it_cannot_listen(
    reactor: EPollReactor, tmp_path: Path
) -> None:
    """
    A path that cannot be had ends a primary that starts, but not one that has clients.
    """
    path = str(tmp_path / "missing" / "control")
    with pytest.raises(ListenError, match="cannot listen there"):
        serve(reactor, path, Answering())
    with capturedLogs() as events:
        control = serve(reactor, path, Answering(), inherited={})
    assert "cannot listen there" in str(formatEvent(events[-1]))
    control.stopService()


def turns(reactor: EPollReactor) -> Iterator[None]:
    """
    Turn a reactor so often that whatever is to happen has happened.
    """
    for _ in range(500):
        reactor.iterate(0.01)
        yield


def closed(client: socket.socket) -> bool:
    """
    Whether the other end has closed.
    """
    try:
        return client.recv(1000) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    ("garbage", "named"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "a name of 18245 bytes"),
        (b"\0\0", "neither a command nor an answer"),
        (b"\0\x07_answer\0\x011\0\0", "an answer to '1', which was not asked"),
        (b"\0\x08_command\0\x07Explain\0\0", "without a number to answer to"),
        (b"\0\x08_command\0\x07Explain\0\x04_ask\0\x011\0\0", "arguments that mean nothing"),
        (b"".join(b"\0\x02%02d\0\x01v" % n for n in range(40)), "more than 16 values"),
    ],
)
def test_fault_16_garbage_is_closed_with_one_line(
    garbage: bytes, named: str, reactor: EPollReactor, path: str
) -> None:
    """
    Fault 16: who does not speak the protocol is closed, one line says what was sent, and the
    next one is answered.
    """
    control = serve(reactor, path, Answering())
    with capturedLogs() as told:
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.setblocking(False)
                client.sendall(garbage)
                assert any(closed(client) for _ in turns(reactor))
    (line,) = [formatEvent(event) for event in told]
    assert named in line
    assert "does not speak the control protocol" in line
    assert in_thread(reactor, lambda: ask(path, Client(""))) == EXPLANATION
    control.stopService()


def test_fault_16_silent_operators_keep_nobody_out(
    reactor: EPollReactor, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Fault 16: those who connect and say nothing are closed after a while, and cost no more than
    so many descriptors meanwhile.
    """
    monkeypatch.setattr("stickyd.control.operator_socket.OPERATOR_SECONDS", 0.05)
    control = serve(reactor, path, Answering())
    with ExitStack() as stack:
        for _ in range(MOST_OPERATORS + 4):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(path)
            reactor.iterate(0)
        assert len(control._operators) == MOST_OPERATORS
        assert in_thread(reactor, lambda: ask(path, Client(""))) == EXPLANATION
    control.stopService()
