"""
A WSGI application that does what bytes say, most of which it must not.
"""

from __future__ import annotations

import io
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzzing.choices import Choices

STATUSES: tuple[Any, ...] = (
    "200 OK", "404 Not Found", "204 No Content", "304 Not Modified", "599", "100 Continue",
    "101 Switching Protocols", "200", "999 x", "1000 x", "", "OK", b"200 OK", 200, None,
    "200 a\r\nb: c", "200 \u20ac", "200 \xff", " 200 OK", "-200 OK",
)  # fmt: skip

HEADERS: tuple[Any, ...] = (
    [],
    [("Content-Length", "5")],
    [("Content-Length", "0")],
    [("Content-Length", "5"), ("content-length", "5")],
    [("Content-Length", "5"), ("Content-Length", "7")],
    [("Content-Length", "-5")],
    [("Content-Length", "5_0")],
    [("Content-Length", "\u0665")],
    [("Content-Length", "")],
    [("Content-Length", "99999")],
    [("Transfer-Encoding", "chunked")],
    [("Transfer-Encoding", "chunked"), ("Content-Length", "5")],
    [("Connection", "close")],
    [("Connection", "upgrade"), ("Upgrade", "foo")],
    [("X", "a\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n")],
    [("X\r\nY", "a")],
    [("", "a")],
    [("a b", "a")],
    [("\xff", "a")],
    [("X", "\0")],
    [("X", "\u20ac")],
    [("X", "\xff \t")],
    [(b"X", b"y")],
    [("X", 5)],
    ["xy"],
    [("X", "y", "z")],
    [None],
    None,
    5,
    (("X", "y"),),
    {"X": "y"},
    [["X", "y"]],
    [("Set-Cookie", "a=b"), ("Set-Cookie", "stickyd=c")],
)

PIECES: tuple[Any, ...] = (
    b"hello", b"", b"he", b"hello world", bytes(70_000), "hello", "", None, 5, 0,
    bytearray(b"hello"), memoryview(b"hello"), bytes(1_000_000),
)  # fmt: skip

RAISED: tuple[Any, ...] = (
    ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, MemoryError, OSError,
    ConnectionResetError,
)  # fmt: skip

STEPS = ("end", "start", "again", "write", "read", "raise", "hang", "line", "close input")
RESULTS = ("list", "generator", "closing", "file", "iterator", "odd")
ODD: tuple[Any, ...] = (None, 5, "hello", b"hello", {b"hello": 1}, [None], [0], [""], ["hello"],
                        object(), [b"he", None, b"llo"], iter([b"hello"]), (b"hello",))  # fmt: skip
LONGEST = 6


class Closing:
    """
    A response that raises when it is closed.
    """

    def __init__(self, pieces: Iterator[Any], how: int) -> None:
        self._pieces = pieces
        self._how = how
        if how == 1:
            self.close: Any = 5

    def __iter__(self) -> Iterator[Any]:
        return self._pieces

    def __getattr__(self, name: str) -> Any:
        if name == "close":
            if self._how == 2:
                raise ValueError("close")
            return self._close
        raise AttributeError(name)

    def _close(self) -> None:
        raise SystemExit


class WsgiScript:
    """
    One application.

    :ivar running: how many calls have begun and not ended.
    :ivar hanging: how many of them wait to be released.
    :ivar failed: whether one of them has raised something.
    """

    def __init__(self, choices: Choices) -> None:
        self._stubborn = bool(choices.number(2))
        self._steps = self._some_steps(choices)
        self._kind = choices.one_of(RESULTS)
        self._odd = choices.number(len(ODD))
        self._how = choices.number(3)
        self._later = self._some_steps(choices)
        self._kept: Any = None
        self.running = 0
        self.hanging = 0
        self.release = threading.Event()

    def __repr__(self) -> str:
        steps = [(a, repr(b)[:80]) for a, b in self._steps]
        later = [(a, repr(b)[:80]) for a, b in self._later]
        return f"{'stubborn ' * self._stubborn}{steps} {self._kind} {self._odd} {self._how} {later}"

    @staticmethod
    def _some_steps(choices: Choices) -> list[tuple[str, Any]]:
        steps: list[tuple[str, Any]] = []
        for _ in range(LONGEST):
            step = choices.one_of(STEPS)
            value: Any = None
            if step in ("start", "again"):
                value = choices.one_of(STATUSES), choices.one_of(HEADERS)
            elif step == "write":
                value = choices.one_of(PIECES)
            elif step == "raise":
                value = choices.one_of(RAISED)
            elif step in ("read", "line"):
                value = choices.one_of((-1, 5, 0, 100_000, None, "5"))
            elif step == "end":
                break
            steps.append((step, value))
        return steps

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """
        Serve a request.
        """
        if environ["PATH_INFO"] == "/sane":
            start_response("200 OK", [("Content-Length", "4")])
            return [b"sane"]
        self.running += 1
        try:
            for step, value in self._steps:
                self._do(step, value, environ, start_response)
            return self._result(environ, start_response)
        finally:
            self.running -= 1

    def _result(self, environ: dict[str, Any], start_response: Any) -> Any:
        if self._kind == "odd":
            return ODD[self._odd]
        if self._kind == "list":
            return [value for step, value in self._later if step == "write"]
        if self._kind == "file":
            make: Any = (lambda: io.BytesIO(b"hello"), lambda: open(__file__, "rb"), object)  # noqa: SIM115 - as applications do
            file = make[self._how]()
            if self._odd % 2 and hasattr(file, "close"):
                file.close()
            return environ["wsgi.file_wrapper"](file)
        pieces = self._pieces(environ, start_response)
        if self._kind == "closing":
            return Closing(pieces, self._how)
        return iter(list(pieces)) if self._kind == "iterator" else pieces

    def _pieces(self, environ: dict[str, Any], start_response: Any) -> Iterator[Any]:
        for step, value in self._later:
            if step == "write":
                yield value
            else:
                self._do(step, value, environ, start_response)

    def _do(self, step: str, value: Any, environ: dict[str, Any], start_response: Any) -> None:
        try:
            self._step(step, value, environ, start_response)
        except Exception:
            if not self._stubborn:
                raise

    def _step(self, step: str, value: Any, environ: dict[str, Any], start_response: Any) -> None:
        if step == "start":
            self._kept = start_response(*value)
        elif step == "again":
            try:
                raise ValueError("again")
            except ValueError:
                self._kept = start_response(*value, sys.exc_info())
        elif step == "write" and self._kept is not None:
            self._kept(value)
        elif step == "read":
            environ["wsgi.input"].read(value)
        elif step == "line":
            environ["wsgi.input"].readline(value)
        elif step == "close input":
            environ["wsgi.input"].close()
        elif step == "raise":
            raise value
        elif step == "hang":
            self.hanging += 1
            try:
                self.release.wait()
            finally:
                self.hanging -= 1
