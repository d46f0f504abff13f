"""
What is said of applications that count on threads of gevent or eventlet.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
import socketio

from stickyd.errors import ApplicationError
from stickyd.worker.green_threads import green_threads
from stickyd.worker.loading import load

if TYPE_CHECKING:
    from pathlib import Path


def patch_threads(monkeypatch: pytest.MonkeyPatch, module: str, function: str, what: str) -> None:
    """
    Have a library say that it has replaced threads.
    """
    library = ModuleType(module)
    setattr(library, function, lambda asked: asked == what)
    monkeypatch.setitem(sys.modules, module, library)


@pytest.mark.parametrize(
    ("module", "function", "what", "call"),
    [
        ("gevent.monkey", "is_module_patched", "threading", "gevent.monkey.patch_all()"),
        ("eventlet.patcher", "is_monkey_patched", "thread", "eventlet.monkey_patch()"),
    ],
)
def test_patched_threads_are_told(
    module: str,
    function: str,
    what: str,
    call: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Whether the import succeeds or, as it often does then, fails.
    """
    assert not [line for line in green_threads("--wsgi", "a:b") if "replaced" in line]
    patch_threads(monkeypatch, module, function, what)
    (line, *_) = green_threads("--wsgi", "a:b")
    advice = f"{call} has replaced the threads that it is to run in: leave that out"
    assert line == f"--wsgi a:b: {advice}"
    (tmp_path / "tried_green.py").write_text("raise RuntimeError('a lock')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ApplicationError) as refused:
        load("--wsgi", "tried_green:app")
    assert str(refused.value).endswith(f"line 1). {advice}")


def test_the_mode_of_a_socketio_server_is_told() -> None:
    """
    It takes eventlet or gevent by itself, if they are installed.
    """
    server = socketio.Server(async_mode="threading")
    assert green_threads("--wsgi", "a:b") == []
    server.eio.async_mode = server.async_mode = "eventlet"
    (line,) = green_threads("--wsgi", "a:b")
    assert "has async_mode 'eventlet'" in line
    assert line.endswith('write async_mode="threading" where it is made')
