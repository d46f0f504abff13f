"""
Asking a primary that is not as it should be: each time one line says what is wrong.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from stickyd.control.operator_client import ask
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
                if answer:
                    connection.sendall(answer)

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
    with pytest.raises(OperatorError, match=rf"^--control {path}: nobody listens there; is the"):
        ask(path, Client(""))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with pytest.raises(OperatorError, match="nobody listens there"):
        ask(path, Client(""))
    os.unlink(path)
    with open(path, "w"), pytest.raises(OperatorError, match="nobody listens there"):
        ask(path, Client(""))


def test_not_permitted(path: str) -> None:
    """
    Another user does not get in where the mode of the file says so.
    """
    program = (
        "import os, sys\n"
        "from stickyd.control.operator_client import ask\n"
        "from stickyd.errors import OperatorError\n"
        "from stickyd.explain import Client\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: ask(sys.argv[1], Client(''))\n"
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
        f"--control {path}: not permitted: only the user that runs the server, and root, may ask\n"
    )


def test_not_stickyd(path: str) -> None:
    """
    A server that speaks something else is found out, whatever it says.
    """
    refused = pytest.raises(OperatorError, match="does not speak stickyd's control protocol")
    with answering(path, b"HTTP/1.1 400 Bad Request\r\n\r\n"), refused:
        ask(path, Client(""))


def test_silence_has_an_end(path: str) -> None:
    """
    A primary that does not answer keeps nobody waiting for ever.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with pytest.raises(OperatorError, match=r"no answer within 0\.01 s"):
            ask(path, Client(""), 0.01)


def test_who_closes_is_asked_again(path: str) -> None:
    """
    A primary that replaces its code closes its connections, and answers the next time; one
    that never does is not asked for ever.
    """
    refused = pytest.raises(OperatorError, match="the server closes without an answer; see its log")
    with answering(path, b"", b"", b"") as questions, refused:
        ask(path, Client("192.0.2.7"))
    assert len(questions) == 3
    assert all(b"192.0.2.7" in question for question in questions)


def test_too_much_is_said(path: str) -> None:
    """
    What does not fit into a message is refused before it is sent.
    """
    refused = pytest.raises(OperatorError, match="what is said of the client is too long")
    with answering(path, b""), refused:
        ask(path, Client("", target="/" + "x" * 70_000))
