"""
Asking a running primary, at its control socket.

No reactor is needed: one question, and lines until its answer.
"""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

from stickyd.ctl.errors import ConnectionEnded, CtlError, Exit, NotDone
from stickyd.errors import OperatorError
from stickyd.explain import Explanation, Occupant
from stickyd.net.peer_process import peer_of
from stickyd.operate.wire import ALIVE_SECONDS, LONGEST_ANSWER_BYTES, VERSION, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stickyd.explain import Client

#: Seconds without a word from the server: one that is alive says so more often.
PATIENCE_SECONDS = 5 * ALIVE_SECONDS

#: How often a question that changes nothing is asked: a primary that replaces its code
#: closes its connections.
_ATTEMPTS = 3

#: Seconds until it is tried again to connect to a server whose queue is full.
_FULL_SECONDS = 0.02


def hear_nothing(message: Mapping[str, Any]) -> None:
    """
    Leave steps and events unheard.
    """


def ask(
    path: str,
    command: str,
    arguments: Mapping[str, object],
    heard: Callable[[Mapping[str, Any]], object] = hear_nothing,
    seconds: float = PATIENCE_SECONDS,
) -> dict[str, Any]:
    """
    Have a running primary carry out a command.

    :param path: of its socket.
    :param heard: told each message that comes before the answer: ``step`` or ``event``; and
        first ``server``, the pid of the server, where the kernel tells it.
    :param seconds: how long the server may say nothing.
    :return: the answer.
    :raises NotDone: if the server says why it was not done.
    :raises ConnectionEnded: if it closes instead.
    :raises CtlError: if nobody listens there, we may not ask, or it is no stickyd.
    """
    with _connected(path, seconds) as sock:
        heard({"server": peer_of(sock).pid})
        try:
            sock.sendall(encode({"stickyd": VERSION, "command": command, "arguments": arguments}))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have said why before it closed
        except TimeoutError:
            raise _silent(path, seconds) from None
        for line in _lines(sock, path, seconds):
            message = _read(line, path)
            if "answer" in message:
                answer: dict[str, Any] = message["answer"]
                return answer
            if "error" in message:
                raise NotDone(str(message["error"]))
            if "alive" not in message:
                heard(message)
    raise ConnectionEnded(path)


def ask_again(path: str, command: str, arguments: Mapping[str, object]) -> dict[str, Any]:
    """
    Ask something that changes nothing: again, if the server replaces its code just then.

    :raises CtlError: as :func:`ask`.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return ask(path, command, arguments)
        except ConnectionEnded:
            continue
    return ask(path, command, arguments)


def _connected(path: str, seconds: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(seconds)
    deadline = time.monotonic() + seconds
    try:
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:
                # Its queue is full (connect(2), EAGAIN): that many ask at once.
                if time.monotonic() >= deadline:
                    raise TimeoutError from None
                time.sleep(_FULL_SECONDS)
            else:
                return sock
    except (FileNotFoundError, ConnectionRefusedError):
        reason, code = "nobody listens there; is the server running?", Exit.NO_SERVER
    except PermissionError:
        reason = "not permitted: only the user that runs the server, and root, may ask"
        code = Exit.NO_SERVER
    except TimeoutError:
        sock.close()
        raise _silent(path, seconds) from None
    except OSError as problem:
        reason, code = problem.strerror or str(problem), Exit.NO_SERVER
    sock.close()
    raise CtlError(f"{path}: {reason}", code)


def _silent(path: str, seconds: float) -> CtlError:
    return CtlError(f"{path}: no answer within {seconds:g} s", Exit.NO_ANSWER)


def _lines(sock: socket.socket, path: str, seconds: float) -> Iterator[bytes]:
    """
    The lines that come, until the other end closes.
    """
    read = bytearray()
    while True:
        try:
            data = sock.recv(65536)
        except ConnectionResetError:
            return
        except TimeoutError:
            raise _silent(path, seconds) from None
        if not data:
            return
        read += data
        *lines, rest = read.split(b"\n") if b"\n" in data else [read]
        read = bytearray(rest)
        yield from (bytes(line) for line in lines)
        if len(read) > LONGEST_ANSWER_BYTES:
            raise _foreign(path)


def _read(line: bytes, path: str) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise _foreign(path) from None
    if not isinstance(message, dict):
        raise _foreign(path)
    return message


def _foreign(path: str) -> CtlError:
    return CtlError(
        f"{path}: what listens there does not speak stickyd's control protocol", Exit.NO_SERVER
    )


def ask_who_serves(path: str, client: Client) -> Explanation:
    """
    Ask a running primary who serves a client.

    :raises OperatorError: if there is no answer.
    """
    arguments = {
        "address": client.address,
        "header": [f"{name}:{value}" for name, value in client.headers],
        "path": client.target,
        "sni": client.server_name,
    }
    try:
        return explanation_of(ask_again(path, "explain", arguments))
    except NotDone as problem:
        raise OperatorError(f"--control {path}: {problem}") from None
    except CtlError as problem:
        raise OperatorError(f"--control {problem}") from None


def explanation_of(answer: Mapping[str, Any]) -> Explanation:
    """
    What the answer to ``explain`` says.
    """
    worker = answer["worker"]
    return Explanation(
        answer["entry"],
        bytes.fromhex(answer["key"]),
        answer["slot"],
        tuple(answer["reasons"]),
        None if worker is None else Occupant(worker["pid"], worker["state"]),
        told=True,
    )
