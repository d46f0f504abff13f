"""
``stickyctl``: from the command line to the exit code.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from stickyd.ctl.asking import ask, ask_again
from stickyd.ctl.errors import ConnectionEnded, CtlError, Exit
from stickyd.ctl.instances import choose
from stickyd.ctl.parser import arguments_of, parse
from stickyd.ctl.rendering import Rendering
from stickyd.ctl.waiting import wait_for_end, wait_for_new_code
from stickyd.errors import OperatorError
from stickyd.operate.table import TABLE
from stickyd.settings.options import write_out

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from stickyd.operate.command import Command


#: Seconds until a server is asked again that has closed the connection.
_AGAIN_SECONDS = 0.2


class Session:
    """
    One command, from here to its answer.
    """

    def __init__(self, parsed: argparse.Namespace) -> None:
        self._parsed = parsed
        self._as_json = parsed.json
        self.run = ""
        self.pid = 0
        self.last_event = 0

    def carry_out(self) -> Exit:
        """
        Ask, and show what is answered.

        :raises CtlError: if it is not done.
        """
        command = TABLE[self._parsed.command]
        try:
            arguments = arguments_of(command, self._parsed)
        except OperatorError as problem:
            raise CtlError(f"{command.name}: {problem}", Exit.USAGE) from None
        rendering = Rendering(command.name, self._as_json)
        path = self._parsed.control or choose(self._parsed.instance, os.environ, os.geteuid())
        if command.name == "top":
            return self._watch(path, rendering)
        answer = self._ask(path, command, arguments)
        if command.name == "events":
            pass  # each was written when it came
        elif self._as_json:
            write_out(json.dumps(answer, indent=2) + "\n")
        else:
            rendering.show(answer)
        return Exit.NOT_DONE if answer.get("ok") is False else Exit.DONE

    def _watch(self, path: str, rendering: Rendering) -> Exit:
        """
        Show the status again and again.
        """
        interval = int(self._parsed.interval or 2)
        if self._as_json:
            while True:
                write_out(json.dumps(ask_again(path, "status", {})) + "\n")
                time.sleep(interval)
        return rendering.repeat(lambda: ask_again(path, "status", {}), interval)

    def _ask(self, path: str, command: Command, arguments: dict[str, object]) -> dict[str, Any]:
        try:
            return ask(path, command.name, arguments, self._hear)
        except ConnectionEnded:
            # What both do to the server ends the connection.
            if command.name == "stop" and self.pid:
                return wait_for_end(self.pid)
            if command.name == "upgrade" and self.run:
                return wait_for_new_code(path, self.run, bool(arguments.get("wait")), self.say)
            if command.changes:
                raise
        # It has changed nothing, and the server may have replaced its code just then.
        if command.name != "events":
            return ask_again(path, command.name, arguments)
        return self._follow_on(path, arguments)

    def _follow_on(self, path: str, arguments: dict[str, object]) -> dict[str, Any]:
        """
        Go on with events where a former connection has ended.
        """
        while True:
            try:
                return ask(path, "events", {**arguments, "after": self.last_event}, self._hear)
            except ConnectionEnded:
                time.sleep(_AGAIN_SECONDS)

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "event" in message:
            event = message["event"]
            self.last_event = event.get("id", self.last_event)
            write_out((json.dumps(event) if self._as_json else Rendering.line_of(event)) + "\n")
            return
        if "server" in message:
            self.pid = message["server"]
            return
        step = message.get("step", {})
        self.run = step.get("run", self.run)
        done, total = step.get("done"), step.get("total")
        count = "" if done is None or total is None else f"{done} of {total}: "
        self.say(f"{count}{step.get('text', '')}")

    def say(self, line: str) -> None:
        """
        Tell how far it is.
        """
        sys.stderr.write(f"{line}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Do what the command line says.

    :return: the exit code.
    """
    try:
        return Session(parse(arguments)).carry_out()
    except CtlError as problem:
        sys.stderr.write(f"stickyctl: {problem}\n")
        return problem.code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Who reads has seen enough; at the exit Python would try to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE


if __name__ == "__main__":
    sys.exit(main())
