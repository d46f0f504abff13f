"""
What may keep ``stickyctl`` from an answer, each with an exit code of its own.
"""

from __future__ import annotations

from enum import IntEnum

from stickyd.errors import OperatorError


class Exit(IntEnum):
    """
    The exit codes.
    """

    DONE = 0
    #: The server was asked, and did not do it, or not wholly.
    NOT_DONE = 1
    #: What was written on the command line means nothing (argparse's own code).
    USAGE = 2
    #: No server answers.
    NO_SERVER = 3
    #: Several servers run, and nothing says which is meant.
    AMBIGUOUS = 4
    #: No answer in the time that was given, or the connection ended before it.
    NO_ANSWER = 5
    #: Interrupted by Ctrl-C, as a shell says it.
    INTERRUPTED = 130


class CtlError(OperatorError):
    """
    Why there is no answer.

    :ivar code: what the program ends with.
    """

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.code = code


class NotDone(CtlError):
    """
    The server says why it was not done.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, Exit.NOT_DONE)


class ConnectionEnded(CtlError):
    """
    The server has closed the connection before it had answered.
    """

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path}: the server closes without an answer; see its log", Exit.NO_ANSWER
        )
