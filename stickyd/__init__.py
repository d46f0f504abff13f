"""
stickyd: a stateful web application on all cores, one client always on one worker.
"""

from __future__ import annotations

__version__ = "0.1.0"

# typing's is not imported: importing any part of the package must bring nothing along.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from stickyd import leader as leader
    from stickyd import worker as worker
    from stickyd.confirmation import Confirmation


def __getattr__(name: str) -> object:
    # So that "import stickyd" alone is enough to write stickyd.worker.slot.
    if name not in ("leader", "worker"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return import_module(f"stickyd.{name}")


def claim(value: bytes | str) -> Confirmation:
    """
    Have the clients that send an id come to this worker.

    For ids that the application mints, with an entry ``learn:KIND:NAME`` of
    ``--affinity`` that says where clients send them.  Those that it mints in the response
    header or cookie of that name need no call.  It may be called from resources, ASGI
    applications and the threads of WSGI applications.  The response of an ASGI application
    in whose handling it is called waits by itself.

    :param value: the id, as clients will send it.
    :return: await it, or call its ``wait()`` in a thread, before the client is told the
        id: only then does its next connection surely arrive here.
    :raises stickyd.errors.ApplicationError: outside of a worker.
    """
    from stickyd.claim_desk import desk

    return desk.claim(value)


def mint(prefix: str = "") -> str:
    """
    Make an id whose clients come to this worker: a room, a game, an upload, an MCP handle.

    It names the slot, and the node if that has a name, and is signed.  An entry
    ``minted:header:NAME``, ``minted:query:NAME``, ``minted:cookie:NAME`` or ``minted:path:REGEX``
    of ``--affinity`` says where clients send it.  No table is kept of it anywhere.  It outlives a
    reload; once its slot is gone, it leads to the slot that has taken over.

    Usable from any thread; in a process that stickyd does not run, too.

    :param prefix: what the id begins with: up to 12 letters, digits and ``-._~``.
    :return: at most 64 characters, each a letter, a digit or one of ``-._~``: safe in a URL, a
        header and a cookie.  Nobody can guess it.
    :raises stickyd.errors.ApplicationError: if the prefix is none, or there is no slot yet, as in
        a spare worker that imports the application.
    """
    from stickyd.identity.desk import own_mint

    return own_mint.mint(prefix)


def secret(label: str | bytes) -> bytes:
    """
    Give a key that all workers of the fleet share.

    It is derived from the fleet's secret: the same in each worker, after a reload and after an
    upgrade, and with ``--secret-file`` after a restart and on other machines with that file.
    When another secret has come on top of the file, workers that are started by the reload get
    another key: what was sealed before is opened by one of :func:`secrets`.

    In a process that stickyd does not run it is random, and another one in each process.

    :param label: what it is for; each label has a key of its own.
    :return: 32 bytes.
    :raises stickyd.errors.ApplicationError: if the label is empty or longer than 255 bytes.
    """
    return secrets(label)[0]


def secrets(label: str | bytes) -> list[bytes]:
    """
    Give all keys of a label: that of :func:`secret`, then one for each other line of
    ``--secret-file``.  Seal with the first, and open with any.

    Ask again for each message, or each minute: the next secret becomes known to a running
    worker before any other one uses it.
    """
    from stickyd.identity.desk import fleet_keys

    return fleet_keys.keys_of(label)


def release_client(request: object) -> None:
    """
    Say that the application is done with a client: nothing that this worker keeps in memory is
    needed for its next request.

    With ``--reload-mode client`` a relieved worker lets it go then, and its next request is
    answered by the current one.  Without that, and while the worker has its slot, nothing changes
    for the client.  Call it at a logout, when a game is over, when a client's last WebSocket has
    closed.  A session of stickyd in the worker's memory stays behind, so end that too.

    :param request: the one that is being handled: of Starlette, FastAPI, Flask, Django or
        twisted.web; or its ASGI scope or WSGI environ.
    :raises stickyd.errors.ApplicationError: outside of a worker, or for something else.
    """
    from stickyd.release_desk import release_desk

    release_desk.release(request)
