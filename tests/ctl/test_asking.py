"""
Asking a primary that is not as it should be: each time one line says what is wrong.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.ctl.asking import ask, ask_again, ask_who_serves
from stickyd.ctl.errors import ConnectionEnded, CtlError, Exit, NotDone
from stickyd.errors import OperatorError
from stickyd.explain import Client
from tests.system.server import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> str:
    """
    Where to ask.
    """
    return str(tmp_path / "control")


@contextmanager
def answering(path: str, *answers: bytes) -> Iterator[list[bytes]]:
    """
    Answer the first question with the first of ``answers``, and so on, and close each time.

    :return: the questions.
    """
    questions: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                questions.append(connection.recv(65536))
                with suppress(BrokenPipeError):  # who has heard enough does not wait for the rest
                    for at in range(len(answer)):
                        connection.sendall(answer[at : at + 1])

    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(path)
        listener.listen()
        serving = pool.submit(serve)
        yield questions
        serving.result()


def test_nobody_listens(path: str) -> None:
    """
    No file, a file that a dead server has left, and a file that is none are all the same.
    """
    with pytest.raises(CtlError, match=rf"^{path}: nobody listens there; is the") as refused:
        ask(path, "status", {})
    assert refused.value.code is Exit.NO_SERVER
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with pytest.raises(CtlError, match="nobody listens there"):
        ask(path, "status", {})
    os.unlink(path)
    with open(path, "w"), pytest.raises(OperatorError, match=f"^--control {path}: nobody listens"):
        ask_who_serves(path, Client(""))


def test_not_permitted(path: str) -> None:
    """
    Another user does not get in where the mode of the file says so.
    """
    program = (
        "import os, sys\n"
        "from stickyd.ctl.asking import ask\n"
        "from stickyd.errors import OperatorError\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: ask(sys.argv[1], 'status', {})\n"
        "except OperatorError as problem: print(problem)\n"
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        # Nobody but root gets in by this one.
        os.chmod(path, 0)
        for directory in (os.path.dirname(path), os.path.dirname(os.path.dirname(path))):
            os.chmod(directory, 0o755)
        outcome = subprocess.run(
            [sys.executable, "-c", program, path],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    assert outcome.stdout == (
        f"{path}: not permitted: only the user that runs the server, and root, may ask\n"
    )


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"[]\n", b"[" * 100_000 + b"\n", b"\xff\n"]
)
def test_not_stickyd(path: str, answer: bytes) -> None:
    """
    A server that speaks something else is found out, whatever it says.
    """
    refused = pytest.raises(CtlError, match="does not speak stickyd's control protocol")
    with answering(path, answer), refused:
        ask(path, "status", {})


def test_silence_has_an_end(path: str) -> None:
    """
    A primary that does not answer keeps nobody waiting for ever; nor does one whose queue
    is full.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with pytest.raises(CtlError, match=r"no answer within 0\.01 s") as refused:
            ask(path, "status", {}, seconds=0.01)
        assert refused.value.code is Exit.NO_ANSWER
        for _ in range(3):
            with pytest.raises(CtlError, match=r"no answer within 0\.01 s"):
                ask(path, "status", {}, seconds=0.01)


def test_what_comes_before_the_answer_is_heard(path: str) -> None:
    """
    Steps and events reach whoever wants them, in their order, though they come byte by byte;
    that the server is alive reaches nobody.
    """
    lines = b'{"step":{"text":"one"}}\n{"alive":true}\n{"event":{"n":2}}\n{"answer":{"x":3}}\n'
    heard: list[Any] = []
    with answering(path, lines):
        assert ask(path, "reload", {}, heard.append) == {"x": 3}
    assert heard == [{"server": os.getpid()}, {"step": {"text": "one"}}, {"event": {"n": 2}}]


def test_the_server_says_why_not(path: str) -> None:
    """
    The server's own line, without the path of a server that is there.
    """
    refused = pytest.raises(NotDone, match=r"^there is no slot 9$")
    with answering(path, b'{"error":"there is no slot 9"}\n'), refused:
        ask(path, "drain", {"slot": 9})


def test_who_closes_is_asked_again(path: str) -> None:
    """
    A primary that replaces its code closes its connections, and answers the next time; one
    that never does is not asked for ever.
    """
    with answering(path, b'{"step":', b'{"answer":{}}\n') as questions:
        assert ask_again(path, "status", {}) == {}
    assert len(questions) == 2
    assert questions[0] == questions[1] == b'{"stickyd":2,"command":"status","arguments":{}}\n'
    os.unlink(path)
    refused = pytest.raises(ConnectionEnded, match="the server closes without an answer; see its")
    with answering(path, b"", b"", b"") as questions, refused:
        ask_again(path, "explain", {"address": "192.0.2.7"})
    assert len(questions) == 3
