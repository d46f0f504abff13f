"""
Fault 26: what is the server's own is nobody else's: children inherit no descriptor of it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.system.client import ask_once
from tests.system.processes import PROC, descriptors_of

if TYPE_CHECKING:
    from tests.system.conftest import Start

_STANDARD = {0, 1, 2}


def inheritable(pid: int) -> dict[int, str]:
    """
    The descriptors of a process that its children would get, with what they are.
    """
    found = {}
    for number in descriptors_of(pid) - _STANDARD:
        try:
            text = (PROC / str(pid) / "fdinfo" / str(number)).read_text()
            target = os.readlink(PROC / str(pid) / "fd" / str(number))
        except FileNotFoundError:
            continue  # closed meanwhile
        flags = next(line.split()[1] for line in text.splitlines() if line.startswith("flags:"))
        if not int(flags, 8) & os.O_CLOEXEC:
            found[number] = target
    return found


def test_fault_26_children_inherit_nothing(start: Start) -> None:
    """
    Fault 26: children of the application, started in any way, have the three standard
    descriptors and no other, and neither has the primary one to give, before an upgrade and
    after it, from the workers that were there already and from the new ones.
    """
    server = start("--resource", "tests.system.apps:begetter")
    for _ in range(2):
        for way in ("system", "spawn", "popen"):
            answer = ask_once(server.target, path=f"/{way}")
            assert answer.status == 200
            assert answer.body == b"", (way, answer.body)
        for slot in range(2):
            assert inheritable(server.worker(slot)) == {}
        assert inheritable(server.pid) == {}
        server.upgrade()
