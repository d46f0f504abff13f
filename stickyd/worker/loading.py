"""
Importing what the settings name, and saying why it cannot be had.

The module is imported before the loop runs, as uvicorn does: ``asyncio.run()`` has its place
there.  What is called to make an application is called while it runs.
"""

from __future__ import annotations

import asyncio
import importlib
import sysconfig
import traceback
from contextlib import contextmanager
from pathlib import PurePath
from traceback import FrameSummary
from typing import TYPE_CHECKING, Any, NoReturn

from stickyd.errors import ApplicationError
from stickyd.worker.green_threads import patched_threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stickyd.settings import Settings

#: The kinds of applications that are not imported.
_NOT_IMPORTED = ("static",)

#: Where the code of others stands.
_LIBRARIES = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)

#: Where our own code stands.
_OURS = str(PurePath(__file__).parents[1]) + "/"

#: What is shown of a long traceback: its beginning, and more of its end.
_FRONT_CHARACTERS = 2000
_BACK_CHARACTERS = 9000

#: What stands in every stack of an import.
_MACHINERY = (__file__, importlib.__file__)


class ServesItself(Exception):
    """
    The application has the reactor run while it is imported.
    """


def import_ahead(settings: Settings, reactor: Any) -> None:
    """
    Import the application that the settings name, if there is one, before the loop runs.

    :raises ApplicationError: as :func:`load`.
    """
    if settings.application is None or settings.application[0] in _NOT_IMPORTED:
        return
    kind, name = settings.application
    loop = loop_of(reactor)
    try:
        with _refusing_to_run(reactor):
            load(f"--{kind}", name)
    finally:
        if loop is not None:
            # asyncio.run() leaves none, and get_event_loop() is to give the worker's.
            asyncio.set_event_loop(loop)


def loop_of(reactor: Any) -> asyncio.AbstractEventLoop | None:
    """
    The asyncio loop that a reactor runs, if it is of that kind.
    """
    loop: asyncio.AbstractEventLoop | None = getattr(reactor, "_asyncioEventloop", None)
    return loop


@contextmanager
def _refusing_to_run(reactor: Any) -> Iterator[None]:
    """
    Have ``reactor.run`` fail at once, which would never return.
    """

    def run(*arguments: object, **options: object) -> NoReturn:
        raise ServesItself(
            "it runs the reactor itself, and the server does that: put the line below"
            " if __name__ == '__main__':"
        )

    reactor.run = run
    try:
        yield
    finally:
        del reactor.run


def load(option: str, name: str) -> Any:
    """
    Import ``module:attribute``.

    :param option: the option that names it, for errors.
    :raises ApplicationError: naming the module, the attribute and the cause.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise ApplicationError(
            f"{option} {name}: expected MODULE:ATTRIBUTE, as in {option} my.site:root"
        )
    _require_module_name(option, name, module_name)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as problem:
        if problem.name is not None and f"{module_name}.".startswith(f"{problem.name}."):
            raise ApplicationError(
                f"{option} {name}: there is no module {problem.name!r} on the path: start"
                " twistd where it is, or set PYTHONPATH"
            ) from None
        raise _import_failed(option, name, module_name, problem) from None
    except BaseException as problem:  # noqa: BLE001 (whatever an import may do, SystemExit too)
        raise _import_failed(option, name, module_name, problem) from None
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ApplicationError(
                f"{option} {name}: module {module_name!r} ({getattr(found, '__file__', '')})"
                f" has no attribute {part!r}"
                + (f"; write {option} {name[:-2]}" if name.endswith("()") else "")
            ) from None
    return found


def _require_module_name(option: str, name: str, module: str) -> None:
    """
    :raises ApplicationError: if it is a file's name, or has a dot where none can be.
    """
    if "/" in module or module.endswith(".py"):
        path = PurePath(module.removesuffix(".py"))
        below = not path.is_absolute() and ".." not in path.parts
        dotted = ".".join(path.parts) if below else path.name
        advice = f"write the module's, {option} {dotted}:{name.partition(':')[2]}"
        if not below:
            advice += f", and start twistd in {path.parent}, or set PYTHONPATH to that"
        raise ApplicationError(f"{option} {name}: {module} is a file's name; {advice}")
    if not all(part.isidentifier() for part in module.split(".")):
        raise ApplicationError(
            f"{option} {name}: {module!r} is not a module's name, which is words with dots"
            f" between them, as in {option} my.site:root"
        )


def called(option: str, name: str, make: Any) -> Any:
    """
    Call what makes an application.

    :raises ApplicationError: if it fails.
    """
    try:
        return make()
    except SystemExit as problem:
        raise ApplicationError(
            f"{option} {name}: calling it failed: the application ended its process"
            f" ({problem.code}): SystemExit{_place(problem)}",
            own_traceback(problem),
        ) from None
    except Exception as problem:  # noqa: BLE001 (the application's own code)
        raise ApplicationError(
            f"{option} {name}: calling it failed: {_told(problem)}{_place(problem)}",
            own_traceback(problem),
        ) from None


def _import_failed(option: str, name: str, module: str, problem: BaseException) -> ApplicationError:
    said = f"{_told(problem)}{_place(problem)}"
    patched = patched_threads()
    if patched:
        said += f". {patched}"
    return ApplicationError(
        f"{option} {name}: importing {module!r} failed: {said}",
        "" if isinstance(problem, ServesItself) else own_traceback(problem),
    )


def own_traceback(problem: BaseException) -> str:
    """
    The whole traceback of what an application raised, but for what led to its own first line:
    ours, and the machinery of imports.
    """
    told = traceback.TracebackException.from_exception(problem)
    waiting, seen = [told], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        frames = list(each.stack)
        while frames and _leads_there(frames[0]):
            frames.pop(0)
        each.stack = traceback.StackSummary.from_list(frames)
        waiting += [cause for cause in (each.__cause__, each.__context__) if cause is not None]
    text = "".join(told.format()).rstrip("\n")
    left_out = len(text) - _FRONT_CHARACTERS - _BACK_CHARACTERS
    if left_out <= 0:
        return text
    return (
        f"{text[:_FRONT_CHARACTERS]}\n… {left_out} characters are left out …\n"
        f"{text[-_BACK_CHARACTERS:]}"
    )


def _leads_there(frame: FrameSummary) -> bool:
    return frame.filename in _MACHINERY or frame.filename.startswith(("<frozen ", _OURS))


def _told(problem: BaseException) -> str:
    """
    What it is and says, in one line.
    """
    said = str(problem)
    if isinstance(problem, SyntaxError):
        said = problem.msg  # its text repeats the place, but for the directory
    if isinstance(problem, ServesItself):
        return said
    return f"{type(problem).__name__}: {' '.join(said.split())}".removesuffix(": ")


def _place(problem: BaseException) -> str:
    """
    Where it happened: the line itself, and of a library the application's line that led there.
    """
    frames = traceback.extract_tb(problem.__traceback__)
    if isinstance(problem, SyntaxError) and problem.filename:
        frames.append(FrameSummary(problem.filename, problem.lineno, "", lookup_line=False))
    named = places(frames)
    return f" ({', from '.join(named)})" if named else ""


def places(frames: Sequence[FrameSummary]) -> list[str]:
    """
    Name the places of a stack that an operator looks at.

    :param frames: the outermost first.
    :return: the innermost place, and the last one before it that is in another file: one of
        the application's own, if there is one.
    """
    frames = list(frames)
    for number, frame in enumerate(frames):
        if frame.filename == __file__:
            frames = frames[number + 1 :]  # What leads here is ours.
            break
    shown = [
        frame
        for frame in frames
        if not frame.filename.startswith("<") and frame.filename not in _MACHINERY
    ]
    if not shown:
        return []
    innermost = shown[-1]
    led_there = [frame for frame in shown if frame.filename != innermost.filename]
    own = [frame for frame in led_there if not frame.filename.startswith(_LIBRARIES)]
    named = [innermost, *(own or led_there[:1])[-1:]]
    return [f"{frame.filename}, line {frame.lineno}" for frame in named]
