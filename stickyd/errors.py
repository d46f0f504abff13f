"""
Every error that stickyd raises: one tree, each branch named after whose mistake it is.

An operator's error reaches the operator as the one line in its message; so the
message says what was wrong, where, and what to write instead.
"""


class StickydError(Exception):
    """
    The root of the tree.
    """


class OperatorError(StickydError):
    """
    The operator's: an option, a file, an endpoint, an application that does not import.
    """


class SettingError(OperatorError):
    """
    A setting has a value that it cannot have, or a name that no setting has.
    """


class ApplicationError(OperatorError):
    """
    The application cannot be imported, or is not what the option says it is.

    :ivar trace: the traceback of what the application raised, from the first line that is its
        own; empty if it raised nothing.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class ListenError(OperatorError):
    """
    An endpoint cannot be listened on, or is of a kind that cannot hand connections over.
    """


class ClientError(StickydError):
    """
    The client's: what it sent is not what the protocol allows.
    """


class WorkerError(StickydError):
    """
    The worker's: it failed to start, or broke its side of a channel's protocol.
    """


class StartFailed(WorkerError):
    """
    A worker could not become ready; the message is the worker's own reason.
    """


class FrameError(WorkerError):
    """
    A message on the handoff channel, or on the bus, is not a frame.
    """


class ControlError(WorkerError):
    """
    A message on the control channel is not what its protocol allows.
    """


class SessionError(StickydError):
    """
    What was asked of a session cannot be done.
    """


class NoSuchSession(SessionError, KeyError):
    """
    The store has no session of that id: there never was one, or it has ended.
    """

    __str__ = Exception.__str__  # a KeyError would show its message as a repr


class SessionMoved(SessionError):
    """
    The session has gone to another worker; only that one may serve or change it.
    """


class SessionConflict(SessionError):
    """
    The session was written by another request since it was loaded.
    """


class StoreAway(StickydError):
    """
    The store of sessions cannot be reached, or cannot do what it should: nobody knows whether
    the operation was done.  A request that needs it is answered with 503.

    :ivar retry_after_seconds: when to try again.
    """

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotCarriable(SessionError, TypeError):
    """
    The application's: a value in a session's data is not plain data.
    """


class SessionTooLarge(SessionError, ValueError):
    """
    The application's: a session's data is larger than is allowed.
    """


class BusError(StickydError):
    """
    What was asked of the bus cannot be done; nobody gets the message.
    """


class BusLimitError(BusError, ValueError):
    """
    The application's: the name of a channel or a message is beyond its bound, or there are too
    many channels.
    """


class BusFull(BusError):
    """
    More was published than could be sent so far.
    """


class BusClosed(BusError):
    """
    The worker stops, or the primary has ended its bus.
    """


class TransferError(WorkerError):
    """
    What a worker passed on as sessions is not a chunk of sessions.
    """
