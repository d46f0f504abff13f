"""
The control socket: who is answered there, and what becomes of the file.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from stickyd.ctl.asking import ask
from stickyd.ctl.errors import NotDone
from stickyd.errors import ListenError, OperatorError
from stickyd.net.peer_process import peer_uid
from stickyd.operate.place import name_of
from stickyd.operate.socket import ControlSocket, listening_at
from stickyd.operate.wire import VERSION, encode
from tests.operate.answering import YES, Answering, asked, heard, in_thread, serve
from tests.reactors import turn_until

if TYPE_CHECKING:
    from pathlib import Path

    from twisted.internet.epollreactor import EPollReactor


def test_question_and_answer_arrive_as_they_are(reactor: EPollReactor, path: str) -> None:
    """
    Whatever is asked, and answered, is the same at the other end, byte by byte too.
    """
    run = Answering(YES)
    control = serve(reactor, path, run)
    given = {"path": "/ü?x=1", "header": ["a: \udcff", "\n"]}
    assert in_thread(reactor, lambda: ask(path, "explain", given)) == YES
    assert run.asked == [("explain", given)]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        for byte in encode({"stickyd": VERSION, "command": "x"}):
            client.sendall(bytes([byte]))
            reactor.iterate(0)
        assert heard(reactor, client, 1) == [{"answer": YES}]
    assert run.asked[-1] == ("x", {})
    control.stopService()


def test_questions_are_answered_in_turn(reactor: EPollReactor, path: str) -> None:
    """
    Several may be asked at once; each is answered when the one before it is, and the steps
    of one come before its answer.
    """
    answer: Deferred[dict[str, Any]] = Deferred()
    run = Answering(answer)
    control = serve(reactor, path, run)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"".join(encode({"stickyd": VERSION, "command": n}) for n in range(3)))
        turn_until(reactor, lambda: run.asked)
        for _ in range(3):
            reactor.iterate(0)
        assert run.asked == [(0, {})]
        run.askers[0].step("one", slot=3)
        run.answer = YES
        answer.callback({"first": True})
        assert heard(reactor, client, 4) == [
            {"step": {"text": "one", "slot": 3}},
            {"answer": {"first": True}},
            {"answer": YES},
            {"answer": YES},
        ]
    control.stopService()


def test_mistake_is_told_in_its_own_words(reactor: EPollReactor, path: str) -> None:
    """
    What is wrong with the question comes back as the line that says so; an error of ours
    stands in the log, and the next question is answered.
    """
    run = Answering(OperatorError("--address: no"))
    control = serve(reactor, path, run)
    with pytest.raises(NotDone, match=r"^--address: no$"):
        asked(reactor, path)
    run.answer = ZeroDivisionError("ours")
    with capturedLogs() as events, pytest.raises(NotDone, match="has an error; its log says"):
        asked(reactor, path)
    assert "ours" in str(events[-1]["log_failure"])
    run.answer = {"not": object()}
    with capturedLogs() as events, pytest.raises(NotDone, match="has an error; its log says"):
        asked(reactor, path)
    assert "not JSON serializable" in str(events[-1]["log_failure"])
    run.answer = YES
    assert asked(reactor, path) == YES
    control.stopService()


def test_another_version_is_told_so(reactor: EPollReactor, path: str) -> None:
    """
    Who asks by another version gets one line that names both.
    """
    run = Answering(YES)
    control = serve(reactor, path, run)
    for version in (VERSION + 1, None, "x" * 10_000):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(encode({"stickyd": version, "command": "status"}))
            (line,) = heard(reactor, client, 1)
        told = f"speaks version {VERSION} of the control protocol, and this is version"
        assert told in line["error"]
        assert len(line["error"]) < 300
    assert not run.asked
    control.stopService()


def test_strangers_are_not_answered(reactor: EPollReactor, path: str) -> None:
    """
    Another user is told why, and logged, even if the file's mode lets it in; the owner and
    root are served.
    """
    run = Answering(YES)
    uids = [os.geteuid() + 1, 0, os.geteuid(), None]
    control = serve(reactor, path, run, uid_of=lambda _: uids.pop(0))
    with capturedLogs() as events, pytest.raises(NotDone, match=r"^not permitted: only the"):
        asked(reactor, path)
    assert formatEvent(events[-1]) == f"User {os.geteuid() + 1} may not ask at {path}"
    assert not run.asked
    for _ in range(3):
        assert asked(reactor, path) == YES
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
    control = serve(reactor, path, Answering(YES))
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
    control = serve(reactor, "", Answering(YES))
    assert control.dump_state() == {}
    control.stopService()


def test_daemon_takes_its_file_away_from_elsewhere(
    reactor: EPollReactor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A relative path is one of the directory in which the server was started.
    """
    monkeypatch.chdir(tmp_path)
    control = ControlSocket(reactor, "here", Answering(YES))
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
    former = serve(reactor, path, Answering(OperatorError("former")))
    descriptor = os.dup(former.dump_state()["api"]["descriptor"])
    inode = os.stat(path).st_ino
    control = serve(reactor, path, Answering(YES), inherited={"api": {"descriptor": descriptor}})
    # An exec ends all of the former self but the descriptor.
    assert former._loop is not None
    former._loop.pause()
    assert former._socket is not None
    former._socket.close()
    assert os.stat(path).st_ino == inode
    assert not os.get_inheritable(descriptor)
    assert asked(reactor, path) == YES
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
    control = serve(reactor, wanted, Answering(YES), inherited={"api": {"descriptor": descriptor}})
    assert not os.path.exists(path)
    if name:
        assert asked(reactor, wanted) == YES
    control.stopService()


def test_successor_serves_clients_though_it_cannot_listen(
    reactor: EPollReactor, tmp_path: Path
) -> None:
    """
    A path that cannot be had ends a primary that starts, but not one that has clients.
    """
    path = str(tmp_path / "missing" / "control")
    with pytest.raises(ListenError, match="cannot listen there"):
        serve(reactor, path, Answering(YES))
    with capturedLogs() as events:
        control = serve(reactor, path, Answering(YES), inherited={})
    assert "cannot listen there" in str(formatEvent(events[-1]))
    control.stopService()


# where nobody says where


def test_chosen_path_is_named_after_the_process(reactor: EPollReactor, tmp_path: Path) -> None:
    """
    It is in the directory that the service manager has made; what dead servers have left
    there goes, what is alive or something else stays.
    """
    environment = {"RUNTIME_DIRECTORY": str(tmp_path)}
    left = {"stickyd-999999999.sock": False, "stickyd-1.sock": True, "other.sock": True}
    for name in left:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / name))
    tmp_path.joinpath("stickyd-999999998.sock").mkdir()
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(tmp_path / "stickyd-999999997.sock"))
        alive.listen()
        control = serve(reactor, "auto", Answering(YES), environment=environment)
    assert control.path == str(tmp_path / name_of(os.getpid()))
    assert stat.S_IMODE(os.stat(control.path).st_mode) == 0o600
    assert {name: tmp_path.joinpath(name).exists() for name in left} == left
    assert tmp_path.joinpath("stickyd-999999997.sock").exists()
    assert asked(reactor, control.path) == YES
    descriptor = os.dup(control.dump_state()["api"]["descriptor"])
    after = ControlSocket(
        reactor, "auto", Answering(YES), {"api": {"descriptor": descriptor}}, environment
    )
    after.startService()
    assert after.path == control.path
    after.stopService()
    assert not os.path.exists(after.path)
    control.stopService()


def test_no_place_is_a_line_and_no_failure(
    reactor: EPollReactor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Where nothing can be written, the server runs without a socket, and says so; with ``off``
    it says nothing.
    """
    monkeypatch.setattr("stickyd.operate.place.SYSTEM_DIRECTORY", str(tmp_path / "no" / "where"))
    monkeypatch.setattr("stickyd.operate.place._LAST_RESORT", str(tmp_path / "open"))
    tmp_path.joinpath("open").mkdir()
    tmp_path.joinpath("open").chmod(0o777)
    with capturedLogs() as events:
        for control in ("auto", "off"):
            environment = {"XDG_RUNTIME_DIR": str(tmp_path / "no" / "where")}
            serve(reactor, control, Answering(YES), environment=environment).stopService()
    (line,) = [formatEvent(event) for event in events]
    assert line.startswith("There is no control socket for stickyctl: ")
    assert "others may write there" in line
    assert "No such file or directory" in line
    assert "--control off" in line
