"""
Chromium, driven by Playwright.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from tests.system.nodejs import node_command
from tests.system.programs import need_program
from tests.system.server import LONG

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self


class Page:
    """
    A page in a profile of its own: cookies and connections are shared with no other page.
    """

    def __init__(self, browser: Browser, number: int) -> None:
        self._browser = browser
        self._number = number

    def _do(self, command: str, **arguments: object) -> Any:
        return self._browser.do(command, page=self._number, **arguments)

    def run(self, script: str) -> Any:
        """
        Evaluate an expression in the page; a promise is awaited.
        """
        return self._do("run", script=script)

    def load(self) -> None:
        """
        Load the page again, as its user may.
        """
        self._do("load")

    def until(self, script: str) -> None:
        """
        Wait until an expression is true in the page.
        """
        self._do("until", script=script)

    def press(self, key: str) -> None:
        """
        Press a key, as Playwright calls it.
        """
        self._do("press", key=key)

    def type(self, text: str) -> None:
        """
        Type something.
        """
        self._do("type", text=text)

    def resize(self, width: int, height: int) -> None:
        """
        Show it in a window of this size.
        """
        self._do("size", width=width, height=height)

    def prefer(self, scheme: str) -> None:
        """
        Have its user prefer ``light`` or ``dark``.
        """
        self._do("scheme", scheme=scheme)

    def picture(self, path: Path) -> None:
        """
        Take a picture of all of it.
        """
        self._do("picture", path=str(path))

    @property
    def problems(self) -> list[str]:
        """
        What went wrong in it.
        """
        told: list[str] = self._do("problems")
        return told

    def cookies(self) -> dict[str, dict[str, Any]]:
        """
        The cookies that the profile holds, by name, with their attributes.
        """
        return {cookie["name"]: cookie for cookie in self._do("cookies")}

    def close(self) -> None:
        """
        Close it, with its connections.
        """
        self._do("close")


class Browser:
    """
    A running Chromium without a window.  Use it in a ``with``.
    """

    def __init__(self) -> None:
        plan = {"executable": need_program("chromium"), "patience": LONG * 1000}
        self._process = subprocess.Popen(
            node_command("chromium.js", plan),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, command: str, **arguments: object) -> Any:
        """
        Have the driver do something.

        :return: its answer.
        :raises AssertionError: with its reason, if it fails.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the driver ended at {command} {arguments}"
        answer = json.loads(line)
        assert "error" not in answer, f"{command} {arguments}: {answer['error']}"
        return answer["value"]

    def open(self, url: str) -> Page:
        """
        Open a page in a new profile, whatever its certificate.
        """
        return Page(self, self.do("open", url=url))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        # The driver closes the browser when its input ends, and then itself.
        try:
            self._process.communicate(timeout=LONG)
        finally:
            self._process.kill()
            self._process.wait()
