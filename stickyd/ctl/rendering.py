"""
Answers as people read them: tables by ``rich``, and plain lines.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from stickyd.ctl.asking import explanation_of
from stickyd.ctl.errors import CtlError, Exit
from stickyd.operate.counted import counted
from stickyd.settings.options import write_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: The commands whose answers are tables.
TABLES = ("status", "workers", "config", "requests", "clients", "top")


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
        elif self._command == "check":
            write_out(findings_shown(answer))
        elif self._command == "stacks":
            write_out(stacks_shown(answer))
        elif self._command == "explain":
            write_out(f"{explanation_of(answer)}\n")
        else:
            write_out(f"{_line_of(self._command, answer)}\n")

    def repeat(self, ask: Callable[[], Mapping[str, Any]], seconds: float) -> Exit:
        """
        Show what is answered again and again, in the place of what was shown before.
        """
        from stickyd.ctl.tables import repeat

        repeat(ask, seconds)
        return Exit.DONE

    @staticmethod
    def line_of(event: Mapping[str, Any]) -> str:
        """
        An event as a line.
        """
        at = event.get("time")
        when = "" if at is None else f"{time.strftime('%F %T', time.localtime(at))}  "
        level = event.get("level", "info")
        mark = "" if level == "info" else f"{level.upper()}: "
        return f"{when}{event.get('event', '')}  {mark}{event.get('text', '')}"


def findings_shown(answer: Mapping[str, Any]) -> str:
    """
    What is not as it should be, a line each, and what to do.
    """
    lines = [f"{answer['serving']} of {answer['slots']} slots serve"]
    for finding in answer["findings"]:
        advice = finding["advice"] and f" -> {finding['advice']}"
        lines.append(f"{finding['level']}: {finding['text']}{advice}")
    if answer["ok"]:
        lines.append("all is well")
    return "\n".join(lines) + "\n"


def stacks_shown(answer: Mapping[str, Any]) -> str:
    """
    The stacks of a worker, for people.
    """
    lines = [f"worker {answer['pid']} (slot {answer['slot']})"]
    if answer["by"] == "signal":
        lines.append("its interpreter does not answer; by faulthandler, the latest call first:")
        lines += answer["lines"]
    for each in answer.get("threads", ()):
        lines += ["", f"thread {each['name']}", *(f"  {line}" for line in each["stack"])]
    alike: dict[tuple[str, ...], list[str]] = {}
    for each in answer.get("tasks", ()):
        alike.setdefault((each["coroutine"], *each["stack"]), []).append(each["name"])
    for (coroutine, *stack), names in alike.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        begun = "" if stack else ", which has not begun"
        lines += ["", f"task {names[0]}{more}: {coroutine}{begun}"]
        lines += [f"  {line}" for line in stack]
    told, count = len(answer.get("tasks", ())), answer.get("task_count", 0)
    if told != count:
        lines += ["", f"{told} of {count} tasks are shown"]
    return "\n".join(lines) + "\n"


def _line_of(command: str, answer: Mapping[str, Any]) -> str:
    if command in ("drain", "undrain"):
        drained = ", ".join(map(str, answer["drained"])) or "none"
        return f"drained slots: {drained}" + ("; the server is not ready" if answer["all"] else "")
    if command == "kill":
        successor = answer.get("successor")
        then = f"; worker {successor} serves" if successor else ""
        return f"slot {answer['slot']}: worker {answer['killed']} was killed{then}"
    if command == "stop":
        ended = answer.get("stopped")
        return f"the server {ended} has ended" if ended else "the server stops"
    if command == "upgrade":
        return f"upgraded: {answer['pid']} runs stickyd {answer['version']}, all workers are fresh"
    if command == "go-back":
        return "back: the former workers have their slots"
    if command in ("reload", "go-on"):
        fresh = answer.get("fresh")
        of = "" if fresh is None else f"{fresh} of "
        verb = "has" if answer["slots"] == 1 else "have"
        return f"reloaded: {of}{counted(answer['slots'], 'slot')} {verb} fresh workers"
    return f"resized: {counted(answer['slots'], 'slot')}"
