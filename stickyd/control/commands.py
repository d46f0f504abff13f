"""
What primary and worker say to each other on the control channel: AMP commands.  And what
an operator asks on the socket of ``--control``.

The channel is a stream socket pair, one per worker.  Its end of file tells a worker that
its primary has died.  An AMP value holds at most 65,535 bytes
(``twisted.protocols.amp.MAX_VALUE_LENGTH``), so whatever can grow is JSON in pieces.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.protocols import amp
from typing_extensions import override

from stickyd.errors import OperatorError, StartFailed

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorSocket, ITransport
    from twisted.python.failure import Failure

#: Where a worker finds its ends of the channels; the primary puts them there.
HANDOFF_DESCRIPTOR = 3
CONTROL_DESCRIPTOR = 4

#: Of what operators ask; who speaks another one is told so.
OPERATOR_VERSION = 1


class Serve(amp.Command):
    """
    Primary to worker, once: load the application and serve.

    Answered when the worker is ready for connections, or with the reason why it never
    will be.

    ``settings``: :meth:`stickyd.settings.Settings.to_json`.  ``slot``: the slot that the
    worker occupies.  ``path``: the primary's ``sys.path``, so that the worker can import
    whatever the primary could.  ``secrets``: what signs (the first) and verifies tokens;
    here, as they must be seen neither in ``ps`` nor where settings are shown.
    """

    arguments = [  # noqa: RUF012 (amp's own metaclass reads it)
        (b"settings", amp.Unicode()),
        (b"slot", amp.Integer()),
        (b"path", amp.ListOf(amp.Unicode())),
        (b"secrets", amp.ListOf(amp.String())),
    ]
    errors = {StartFailed: b"START_FAILED"}  # noqa: RUF012


class Beat(amp.Command):
    """
    Worker to primary, every heartbeat: I am alive, and here are my figures.

    ``figures``: a JSON object of numbers, see :meth:`stickyd.worker.server.Serving.figures`.
    ``accepted``: a :class:`stickyd.affinity.key_counts.Report` of what the worker has accepted by
    itself since the heartbeat before, if it has.
    """

    arguments = [  # noqa: RUF012
        (b"figures", amp.Unicode()),
        (b"accepted", amp.Unicode(optional=True)),
    ]
    requiresAnswer = False


class Release(amp.Command):
    """
    Primary to worker: give away idle connections and sessions.

    Answered when what goes away is gone, but for requests under way.

    ``slots``: how many there are from now on; 0 to give everything to the successor; -1 to
    give nothing any more, as the successor has died.
    ``standing``: those of them that stand.
    """

    arguments = [  # noqa: RUF012
        (b"slots", amp.Integer()),
        (b"standing", amp.ListOf(amp.Integer())),
    ]


class Sessions(amp.Command):
    """
    Both ways: take these sessions over.  The primary passes them on unread.

    ``slot``: whose worker shall have them.  ``chunk``: see :mod:`stickyd.sessions.transfer`.
    """

    arguments = [(b"slot", amp.Integer()), (b"chunk", amp.String())]  # noqa: RUF012


class Place(amp.Command):
    """
    Primary to worker, before it gets connections and after each change: how clients are
    placed.

    ``slots``: how many there are.  ``standing``: those of them that stand.
    """

    arguments = [  # noqa: RUF012
        (b"slots", amp.Integer()),
        (b"standing", amp.ListOf(amp.Integer())),
    ]


class Claim(amp.Command):
    """
    Worker to primary: clients that send these ids are mine from now on.

    Answered when the primary knows.  A worker that lets the client have the id only then
    can be sure that the client's next connection reaches it.

    ``identifiers``: of :func:`stickyd.affinity.resolve.learned_id`.
    """

    arguments = [(b"identifiers", amp.ListOf(amp.String()))]  # noqa: RUF012


class Occupy(amp.Command):
    """
    Primary to a spare worker: this is your slot.
    """

    arguments = [(b"slot", amp.Integer())]  # noqa: RUF012


class Leave(amp.Command):
    """
    Worker to primary: somebody wants me to end; have a successor take over.
    """

    requiresAnswer = False


class Accept(amp.Command):
    """
    Primary to worker: your slot stands again, so accept from your listening sockets.
    """


class Stop(amp.Command):
    """
    Primary to worker: take no more, finish what is under way, exit.

    ``patience``: seconds until the worker closes what is still open.
    """

    arguments = [(b"patience", amp.Float())]  # noqa: RUF012


class Explain(amp.Command):
    """
    Operator to primary: say who serves this client, and why.

    ``version``: :data:`OPERATOR_VERSION`.  ``address``, ``headers`` (each as ``Name: value``),
    ``target``, ``server_name``: :class:`stickyd.explain.Client`.  The answer is a
    :class:`stickyd.explain.Explanation`: ``slot`` is -1 for none, ``state`` is empty where
    there is no worker to tell of.
    """

    arguments = [  # noqa: RUF012
        (b"version", amp.Integer()),
        (b"address", amp.String()),
        (b"headers", amp.ListOf(amp.String())),
        (b"target", amp.String()),
        (b"server_name", amp.String()),
    ]
    response = [  # noqa: RUF012
        (b"entry", amp.Unicode()),
        (b"key", amp.String()),
        (b"slot", amp.Integer()),
        (b"pid", amp.Integer()),
        (b"state", amp.Unicode()),
        (b"reasons", amp.ListOf(amp.Unicode())),
    ]
    errors = {OperatorError: b"OPERATOR"}  # noqa: RUF012


def adopt_control(reactor: IReactorSocket, descriptor: int, protocol: ControlProtocol) -> None:
    """
    Have the reactor read a control channel.

    :param descriptor: our end, non-blocking.  It is duplicated: the caller closes it.
    """
    factory = cast("ServerFactory", ServerFactory.forProtocol(lambda: protocol))
    reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, factory)


class ControlProtocol(amp.AMP):
    """
    One end of a control channel: AMP without its two log lines per connection.
    """

    @override
    def makeConnection(self, transport: ITransport) -> None:
        amp.BinaryBoxProtocol.makeConnection(self, transport)

    @property
    def quiet(self) -> bool:
        """
        Whether no question of ours is unanswered, no answer unsent, what was read so far
        ends with a whole message, and the other end has not closed.
        """
        transport: Any = self.transport
        return (
            not self._outstandingRequests
            and transport is not None
            and transport.connected
            and not transport.dataBuffer[transport.offset :]
            and not transport._tempDataBuffer
            and not self._unprocessed
            and self._currentBox is None
        )

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        amp.BinaryBoxProtocol.connectionLost(self, reason)
