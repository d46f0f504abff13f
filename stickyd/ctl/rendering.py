"""
Answers as people read them: tables by ``rich``, and plain lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.ctl.asking import explanation_of
from stickyd.ctl.errors import CtlError, Exit
from stickyd.settings.options import write_out

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The commands whose answers are tables.
TABLES = ("status", "workers", "config")


class Rendering:
    """
    How the answer of one command is shown.
    """

    def __init__(self, command: str, as_json: bool) -> None:
        """
        :raises CtlError: if what it takes is not installed.
        """
        self._command = command
        if as_json or command not in TABLES:
            return
        try:
            import rich  # noqa: F401
        except ImportError:
            raise CtlError(
                f"{command}: tables are made by rich, which is not installed: pip install"
                " 'stickyd[ctl]'; or write --json",
                Exit.USAGE,
            ) from None

    def show(self, answer: Mapping[str, Any]) -> None:
        """
        Write it to standard output.
        """
        if self._command in TABLES:
            from stickyd.ctl.tables import show

            show(self._command, answer)
        elif self._command == "explain":
            write_out(f"{explanation_of(answer)}\n")
        else:
            write_out(f"{_line_of(self._command, answer)}\n")

    @staticmethod
    def line_of(event: Mapping[str, Any]) -> str:
        """
        An event as a line.
        """
        return f"{event.get('time', '')} {event.get('event', '')}: {event.get('text', '')}".strip()


def _line_of(command: str, answer: Mapping[str, Any]) -> str:
    if command in ("drain", "undrain"):
        drained = ", ".join(map(str, answer["drained"])) or "none"
        return f"drained slots: {drained}"
    if command == "kill":
        successor = answer.get("successor")
        then = f"; worker {successor} serves" if successor else ""
        return f"slot {answer['slot']}: worker {answer['killed']} was killed{then}"
    if command == "stop":
        ended = answer.get("stopped")
        return f"the server {ended} has ended" if ended else "the server stops"
    if command == "upgrade":
        return f"upgraded: {answer['pid']} runs stickyd {answer['version']}, all workers are fresh"
    if command == "reload":
        return f"reloaded: {answer['slots']} slots have fresh workers"
    return f"resized: {answer['slots']} slots"
