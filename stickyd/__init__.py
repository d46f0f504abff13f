"""
stickyd: a stateful web application on all cores, one client always on one worker.
"""

from __future__ import annotations

__version__ = "0.1.0"

# typing's is not imported: importing any part of the package must bring nothing along.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from stickyd.claim_desk import Claimed


def claim(value: bytes | str) -> Claimed:
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
