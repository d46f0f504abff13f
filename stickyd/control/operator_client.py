"""
Asking a running primary, at the socket of ``--control``.

No reactor is needed: one question, one answer.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import ITransport
from twisted.protocols import amp
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyd.control.commands import OPERATOR_VERSION, ControlProtocol, Explain
from stickyd.errors import OperatorError
from stickyd.explain import Explanation, Occupant

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stickyd.explain import Client

#: Seconds that the primary may take to answer.
PATIENCE_SECONDS = 10.0

#: How often it is asked: a primary that replaces its code closes its connections.
_ATTEMPTS = 3


@implementer(ITransport)
class _Wire:
    """
    A socket that blocks, as AMP wants to see it.

    :ivar lost: whether AMP has closed the connection.
    """

    disconnecting = False

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.lost = False

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:  # noqa: N802 (ITransport's name)
        self.write(b"".join(data))

    def loseConnection(self) -> None:  # noqa: N802 (ITransport's name)
        self.lost = True

    def getPeer(self) -> UNIXAddress:  # noqa: N802 (ITransport's name)
        return UNIXAddress(None)

    def getHost(self) -> UNIXAddress:  # noqa: N802 (ITransport's name)
        return UNIXAddress(None)


class _NoAnswerError(Exception):
    """
    The other end has closed.
    """


def ask(path: str, client: Client, seconds: float = PATIENCE_SECONDS) -> Explanation:
    """
    Ask a running primary who serves a client.

    :param path: of its socket (``--control``).
    :param seconds: how long to wait for its answer.
    :raises OperatorError: if nobody listens there, if we may not ask, or if the server is of
        another version or refuses the question.
    """
    for _ in range(_ATTEMPTS):
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(seconds)
                sock.connect(path)
                return _explanation(_converse(sock, client))
        except _NoAnswerError:
            continue
        except (FileNotFoundError, ConnectionRefusedError):
            reason = "nobody listens there; is the server running, with that --control?"
        except PermissionError:
            reason = "not permitted: only the user that runs the server, and root, may ask"
        except TimeoutError:
            reason = f"no answer within {seconds:g} s"
        except OSError as problem:
            reason = problem.strerror or str(problem)
        except OperatorError as problem:
            reason = str(problem)
        raise OperatorError(f"--control {path}: {reason}")
    raise OperatorError(f"--control {path}: the server closes without an answer; see its log")


def _converse(sock: socket.socket, client: Client) -> dict[str, Any]:
    wire = _Wire(sock)
    protocol = ControlProtocol()
    protocol.makeConnection(wire)
    outcome: list[dict[str, Any] | Failure] = []
    try:
        asking = protocol.callRemote(
            Explain,
            version=OPERATOR_VERSION,
            address=_data(client.address),
            headers=[_data(f"{name}:{value}") for name, value in client.headers],
            target=_data(client.target),
            server_name=_data(client.server_name),
        )
    except amp.TooLong:
        raise OperatorError("what is said of the client is too long") from None
    asking.addBoth(outcome.append)
    while not outcome:
        data = sock.recv(65536)
        if not data:
            raise _NoAnswerError
        protocol.dataReceived(data)
        if wire.lost and not outcome:
            raise OperatorError("what listens there does not speak stickyd's control protocol")
    answer = outcome[0]
    if not isinstance(answer, Failure):
        return answer
    if answer.check(OperatorError) is not None:
        raise OperatorError(answer.getErrorMessage())
    raise OperatorError(
        "the server does not understand the question; ask with the stickyd that it runs"
    )


def _data(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _explanation(answer: dict[str, Any]) -> Explanation:
    slot = answer["slot"]
    worker = Occupant(answer["pid"], answer["state"]) if answer["state"] else None
    return Explanation(
        answer["entry"],
        answer["key"],
        None if slot < 0 else cast("int", slot),
        tuple(answer["reasons"]),
        worker,
        told=True,
    )
