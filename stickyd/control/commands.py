"""
What primary and worker say to each other on the control channel: AMP commands.

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

from stickyd.errors import StartFailed, WorkerError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorSocket, ITransport
    from twisted.python.failure import Failure

#: Where a worker finds its ends of the channels, and the page that it counts on (see
#: :mod:`stickyd.figures.page`); the primary puts them there.
HANDOFF_DESCRIPTOR = 3
CONTROL_DESCRIPTOR = 4
FIGURES_DESCRIPTOR = 5
BUS_DESCRIPTOR = 6


class Serve(amp.Command):
    """
    Primary to worker, once: load the application and serve.

    Answered when the worker is ready for connections, or with the reason why it never
    will be.

    ``settings``: :meth:`stickyd.settings.Settings.to_json`.  ``slot``: the slot that the
    worker occupies.  ``path``: the primary's ``sys.path``, so that the worker can import
    whatever the primary could.  ``secrets``: what signs (the first) and verifies tokens,
    and what the application's keys are derived from; here, as they must be seen neither in
    ``ps`` nor where settings are shown.  ``session_keys``: what encrypts (the first) and
    decrypts sessions; a former version says none.  ``slots``: how many there are; a former
    version does not say.  ``generation``: the worker's, and ``run``: that of the primary, for
    tokens; a former version says neither.
    """

    arguments = [  # noqa: RUF012 (amp's own metaclass reads it)
        (b"settings", amp.Unicode()),
        (b"slot", amp.Integer()),
        (b"path", amp.ListOf(amp.Unicode())),
        (b"secrets", amp.ListOf(amp.String())),
        (b"session_keys", amp.ListOf(amp.String(), optional=True)),
        (b"slots", amp.Integer(optional=True)),
        (b"generation", amp.Integer(optional=True)),
        (b"run", amp.Unicode(optional=True)),
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
    ``standing``: those of them that are available; the word is an older one, which the workers
    of a primary that replaces its code understand.
    """

    arguments = [  # noqa: RUF012
        (b"slots", amp.Integer()),
        (b"standing", amp.ListOf(amp.Integer())),
    ]


class Sessions(amp.Command):
    """
    Both ways: take these sessions over.  The primary passes them on unread.

    ``slot``: the one whose worker gets them.  ``chunk``: see :mod:`stickyd.sessions.transfer`.

    Answered when that worker has them, or with the reason why it has not: then they are the
    sender's again.
    """

    arguments = [(b"slot", amp.Integer()), (b"chunk", amp.String())]  # noqa: RUF012
    errors = {WorkerError: b"NOT_TAKEN"}  # noqa: RUF012


class Place(amp.Command):
    """
    Primary to worker, before it gets connections and after each change: how clients are
    placed.

    ``slots``: how many there are.  ``standing``: those of them that are available.
    ``keepers``: slot and generation, in turns, of each worker that keeps its clients;
    ``keyed``: whether some of these are known by their keys, which only the primary knows.
    Workers of a former version take no notice of these two.
    """

    arguments = [  # noqa: RUF012
        (b"slots", amp.Integer()),
        (b"standing", amp.ListOf(amp.Integer())),
        (b"keepers", amp.ListOf(amp.Integer(), optional=True)),
        (b"keyed", amp.Boolean(optional=True)),
    ]


class Keep(amp.Command):
    """
    Primary to worker: keep the clients that you know, and say which those are.

    Answered when the worker has said so by :class:`Known`, and has given away the sessions of
    others that belong elsewhere.

    ``slots``: how many there are from now on; 0 if a successor gets the newcomers, and so
    all clients are to be named.  ``standing``: those of them that are available: clients are to
    be named whose keys belong elsewhere by this.
    """

    arguments = [  # noqa: RUF012
        (b"slots", amp.Integer()),
        (b"standing", amp.ListOf(amp.Integer())),
    ]


class Known(amp.Command):
    """
    Worker to primary, when it was told to keep its clients: these are some of them, the one that
    came last first; or they are no more.

    ``keys``: affinity keys.  ``identifiers``: of
    :func:`stickyd.affinity.resolve.learned_id`.  ``gone``: whether they are its clients no
    longer.  ``finished``: whether it has no clients any more.
    """

    arguments = [  # noqa: RUF012
        (b"keys", amp.ListOf(amp.String())),
        (b"identifiers", amp.ListOf(amp.String())),
        (b"gone", amp.Boolean()),
        (b"finished", amp.Boolean()),
    ]


class Claim(amp.Command):
    """
    Worker to primary: clients that send these ids are mine from now on.

    Answered when the primary knows.  A worker that lets the client have the id only then
    can be sure that the client's next connection reaches it.

    ``identifiers``: of :func:`stickyd.affinity.resolve.learned_id`.
    """

    arguments = [(b"identifiers", amp.ListOf(amp.String()))]  # noqa: RUF012


class Verify(amp.Command):
    """
    Primary to worker: tokens that are signed with these secrets count too from now on.

    Said, and answered, before anybody signs with them.

    ``secrets``: as those of :class:`Serve`; what the worker signs with does not change.
    """

    arguments = [(b"secrets", amp.ListOf(amp.String()))]  # noqa: RUF012


class Occupy(amp.Command):
    """
    Primary to a spare worker: this is your slot, and your generation there.
    """

    arguments = [  # noqa: RUF012
        (b"slot", amp.Integer()),
        (b"generation", amp.Integer(optional=True)),
    ]


class Leave(amp.Command):
    """
    Worker to primary: somebody wants me to end; have a successor take over.
    """

    requiresAnswer = False


class Stand(amp.Command):
    """
    Worker to primary: my application wants to lead, or does not any more.
    """

    arguments = [(b"stands", amp.Boolean())]  # noqa: RUF012
    requiresAnswer = False


class Lead(amp.Command):
    """
    Primary to worker: you lead, until you say that you have ended.

    ``term``: larger than that of any leader before.  ``fleet``: identifies the primary, over
    upgrades too.  ``held_term``, ``held_until``: what the last :class:`LeaseHeld` said; 0 if none
    did.
    """

    arguments = [  # noqa: RUF012
        (b"term", amp.Integer()),
        (b"fleet", amp.Unicode()),
        (b"held_term", amp.Integer()),
        (b"held_until", amp.Float()),
    ]


class LeaseHeld(amp.Command):
    """
    Worker to primary, while it leads for all machines: we have their lease.  The primary passes it
    on to the next leader.

    ``term``: that of all machines.  ``until``: when it runs out, by the monotonic clock that all
    processes of a machine share.
    """

    arguments = [(b"term", amp.Integer()), (b"until", amp.Float())]  # noqa: RUF012
    requiresAnswer = False


class LeadEnded(amp.Command):
    """
    Worker to primary: I do not lead any more, and all that the application does at the end of
    it has returned.

    ``term``: that of :class:`Lead`.  The answer, ``goes_on``: whether another worker of this
    machine goes on with the lease of all machines, so that it must not be given back.
    """

    arguments = [(b"term", amp.Integer())]  # noqa: RUF012
    response = [(b"goes_on", amp.Boolean())]  # noqa: RUF012


class Accept(amp.Command):
    """
    Primary to worker: your slot is available again, so accept from your listening sockets.
    """


class ReopenLog(amp.Command):
    """
    Primary to worker: open the file of the access log again, which may have been moved away.
    """


class Look(amp.Command):
    """
    Primary to worker: tell what you are doing, for an operator.

    ``what``: ``requests`` or ``clients``, see :mod:`stickyd.worker.looking`.  The answer,
    ``told``, is JSON.
    """

    arguments = [(b"what", amp.Unicode())]  # noqa: RUF012
    response = [(b"told", amp.Unicode())]  # noqa: RUF012


class AppFigures(amp.Command):
    """
    Worker to primary: the application counts this.

    ``told``: see :mod:`stickyd.figures.app_figures`.
    """

    arguments = [(b"told", amp.Unicode())]  # noqa: RUF012


class TellAppFigures(amp.Command):
    """
    Primary to worker: tell what the application counts.

    Answered when that was sent.
    """


class Stop(amp.Command):
    """
    Primary to worker: take no more, finish what is under way, exit.

    ``patience``: seconds until the worker closes what is still open.
    """

    arguments = [(b"patience", amp.Float())]  # noqa: RUF012


#: How many values a message may have; ours have eight at most.
MAX_BOX_KEYS = 16


def stacks_address(pid: int) -> bytes:
    """
    Where a worker tells what its threads are doing: in Linux's abstract namespace.
    """
    return b"\0stickyd-stacks-%d" % pid


def shown(text: bytes) -> str:
    """
    Make bytes of another process short and printable.
    """
    return ascii(text[:60].decode("latin-1"))


def adopt_control(reactor: IReactorSocket, descriptor: int, protocol: ControlProtocol) -> None:
    """
    Have the reactor read a control channel.

    :param descriptor: our end, non-blocking.  It is duplicated: the caller closes it.
    """
    factory = cast("ServerFactory", ServerFactory.forProtocol(lambda: protocol))
    reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, factory)


class ControlProtocol(amp.AMP):
    """
    One end of a control channel: AMP without its two log lines per connection, and with a
    check of all that comes in.

    Whatever the other end says is checked before it is acted upon: whether there is such a
    command, whether its arguments can be read, whether an answer belongs to a question of
    ours.  At the first message that is not as it should be :meth:`breach` is called, and
    nothing is heard any more.  A responder whose arguments mean nothing calls
    :meth:`stop_listening`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._deaf = False

    def breach(self, problem: str) -> None:
        """
        Called once when the other end has broken the protocol.

        :param problem: what it sent.
        """
        if self.transport is not None:
            self.transport.loseConnection()

    def stop_listening(self, problem: str) -> None:
        """
        Heed nothing that the other end says from now on: it has broken the protocol.

        :param problem: what it sent.
        """
        if not self._deaf:
            self._deaf = True
            self.breach(problem)

    @override
    def dataReceived(self, data: bytes) -> None:
        if not self._deaf:
            super().dataReceived(data)

    @override
    def proto_value(self, string: bytes) -> str:
        box = self._currentBox
        if box is not None and len(box) >= MAX_BOX_KEYS:
            self.stop_listening(f"a message of more than {MAX_BOX_KEYS} values")
            box.clear()
        state: str = super().proto_value(string)
        return state

    @override
    def lengthLimitExceeded(self, length: int) -> None:
        self.stop_listening(f"a name of {length} bytes, where 255 are the most")

    @override
    def locateResponder(self, name: bytes) -> Any:
        # StartTLS is AMP's own; nobody speaks TLS on a socket pair.  Of a name that is not
        # ASCII it would not even say that there is no such command.
        if name == amp.StartTLS.commandName or not name.isascii():
            return None
        return super().locateResponder(name)

    @override
    def ampBoxReceived(self, box: amp.AmpBox) -> None:
        if self._deaf:
            return
        problem = self._objection(box)
        if problem:
            self.stop_listening(problem)
        else:
            super().ampBoxReceived(box)

    def _objection(self, box: amp.AmpBox) -> str:
        """
        What is wrong with a message; empty if nothing is.
        """
        for kind in (amp.ANSWER, amp.ERROR):
            if kind in box:
                if box[kind] not in (self._outstandingRequests or ()):
                    return f"an answer to {shown(box[kind])}, which was not asked"
                if kind == amp.ERROR and not {amp.ERROR_CODE, amp.ERROR_DESCRIPTION} <= set(box):
                    return "an error without its code or description"
                return ""
        if amp.COMMAND not in box:
            return "a message that is neither a command nor an answer"
        name = box[amp.COMMAND]
        if self.locateResponder(name) is None:
            return f"the command {shown(name)}, which there is not"
        commands: Any = self  # AMP keeps them in an attribute of the class
        command, _ = commands._commandDispatch[name]
        if command.requiresAnswer and amp.ASK not in box:
            return f"the command {shown(name)} without a number to answer to"
        try:
            command.parseArguments(box, self)
        except Exception as error:  # noqa: BLE001 (argument types raise what they like)
            return f"the command {shown(name)} with arguments that mean nothing: {error!r:.200}"
        return ""

    @override
    def makeConnection(self, transport: ITransport) -> None:
        amp.BinaryBoxProtocol.makeConnection(self, transport)

    @property
    def quiet(self) -> bool:
        """
        Whether nothing is half done: no question of ours is unanswered, no answer is unsent,
        what was read so far ends with a whole message, and the other end has not closed.
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
