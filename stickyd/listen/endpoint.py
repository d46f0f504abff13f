"""
Endpoint descriptions: what can be listened on, and what to do when it cannot.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError

from stickyd.errors import ListenError, OperatorError, SettingError
from stickyd.listen.port import PassedPort
from stickyd.settings.hints import endpoint_meant

#: What to write instead of a description that means nothing.
_EXAMPLES = "for example tcp:3000, tcp:80:interface=127.0.0.1 or unix:/run/app.sock"

if TYPE_CHECKING:
    from twisted.internet.interfaces import IStreamServerEndpoint


def parse_endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """
    Parse an endpoint description.

    :raises SettingError: if Twisted does not know it, or it cannot hand over descriptors.
    """
    kind = description.partition(":")[0]
    if kind in ("ssl", "tls", "haproxy"):
        raise SettingError(
            f"--listen {description}: {kind}: endpoints read from the connection in the"
            " primary, so it cannot be handed over; write tcp:PORT"
        )
    if description == "unix:":
        raise SettingError(f"--listen {description}: write its path, as in unix:/run/app.sock")
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except Exception as problem:  # noqa: BLE001 (endpoint parsers raise what they like)
        if kind == "systemd" and isinstance(problem, LookupError):
            raise SettingError(
                f"--listen {description}: no such socket was passed to this process; a"
                " service manager passes them by LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES"
            ) from None
        raise SettingError(
            f"--listen {description}: not an endpoint: {_told(kind, problem)}; write"
            f" {endpoint_meant(description) or _EXAMPLES}"
        ) from None
    port = getattr(endpoint, "_port", 0)
    if isinstance(port, int) and not 0 <= port <= 65535:
        raise SettingError(f"--listen {description}: {port} is not a port from 0 to 65535")
    return endpoint


def _told(kind: str, problem: Exception) -> str:
    """
    Put in an operator's words what an endpoint's parser says: it is a Python function that
    gets the parts as arguments.
    """
    said = str(problem)
    if match := re.search(r"unexpected keyword argument '(\w+)'", said):
        return f"{kind}: endpoints have no {match[1]}="
    if match := re.search(r"missing \d+ required positional arguments?: '(\w+)'", said):
        return f"{kind}: endpoints need {match[1]}="
    if match := re.search(r"multiple values for argument '(\w+)'", said):
        return f"{match[1]} stands there twice; a colon in an address is written \\:"
    if re.search(r"takes .* positional arguments? but", said):
        return f"it has more parts than {kind}: endpoints have; a colon in one is written \\:"
    if match := re.search(r"base (8|10): ('.*')", said):
        return f"{match[2]} is no {'octal mode' if match[1] == '8' else 'number'}"
    return said


def is_passed(description: str) -> bool:
    """
    Whether a service manager opens the endpoint and passes its socket to us.
    """
    return description.partition(":")[0] == "systemd"


def take_passed(description: str, endpoint: object) -> PassedPort:
    """
    Take a socket from the service manager.

    :param endpoint: what :func:`parse_endpoint` gave; it can be taken once.
    :raises ListenError: if it is no listening socket of the family that was said.
    """
    assert isinstance(endpoint, AdoptedStreamServerEndpoint)
    descriptor: int = endpoint.fileno
    try:
        sock = socket.socket(fileno=os.dup(descriptor))
        os.close(descriptor)
    except OSError as problem:
        raise explain(description, problem) from None
    domain = sock.family.name.removeprefix("AF_")
    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if sock.family == endpoint.addressFamily and sock.type == socket.SOCK_STREAM and listens:
        return PassedPort(sock)
    sock.close()
    if not listens:
        raise ListenError(
            f"cannot listen on {description}: that socket does not listen for connections; the"
            " service manager's unit needs ListenStream= and Accept=no"
        )
    raise ListenError(
        f"cannot listen on {description}: that socket is of another domain; write domain={domain}"
    )


def take_inherited(description: str, descriptor: int) -> PassedPort:
    """
    Go on with a socket that this process listened on before it replaced its code.

    :param descriptor: ours from now on.
    """
    sock = socket.socket(fileno=descriptor)
    name = sock.getsockname()
    if sock.family != socket.AF_UNIX or is_passed(description) or name[:1] in ("", b"\0"):
        return PassedPort(sock)

    def leave() -> None:
        path = os.fsdecode(name)
        with suppress(FileNotFoundError):
            os.unlink(path)
        # Twisted's, see twisted.python.lockfile: a link to our process id.
        with suppress(OSError):
            if os.readlink(f"{path}.lock") == str(os.getpid()):
                os.unlink(f"{path}.lock")

    return PassedPort(sock, leave)


def explain(description: str, problem: Exception) -> OperatorError:
    """
    Say why an endpoint cannot be listened on, and what to do.
    """
    cause = getattr(problem, "socketError", problem)
    advice = {
        errno.EADDRINUSE: "another program listens there; stop it or choose another port",
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher"
        " port, or let systemd open it (systemd:domain=INET:index=0)",
        errno.EADDRNOTAVAIL: "this machine has no such address",
    }.get(getattr(cause, "errno", 0) or 0)
    text = getattr(cause, "strerror", None) or str(cause)
    if isinstance(problem, CannotListenError) or advice is None:
        return ListenError(
            f"cannot listen on {description}: {text}" + (f": {advice}" if advice else "")
        )
    return ListenError(f"cannot listen on {description}: {text}: {advice}")


def shown(address: object) -> str:
    """
    An address as an operator writes it.
    """
    host = getattr(address, "host", None)
    if host is None:
        return os.fsdecode(getattr(address, "name", None) or str(address))
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{getattr(address, 'port', 0)}"


def longest_backlog() -> int:
    """
    What the kernel allows (listen(2)): it cuts longer ones down in silence.
    """
    try:
        with open("/proc/sys/net/core/somaxconn") as limit:
            return int(limit.read())
    except (OSError, ValueError):
        return 1024
