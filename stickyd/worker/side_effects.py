"""
What this process's own imports and handlers change in an application's world, put right.

An application is written for ``python`` and a server that leaves it alone.  Each function here
takes one change back; ``docs/applications.md`` says what stays.
"""

from __future__ import annotations

import os
import signal

from zope.interface import implementedBy
from zope.interface.declarations import ClassProvides

#: Packages that mean what they declare, with the bases of their own classes.
_OWN_PACKAGES = ("zope", "twisted", "stickyd")


def forget_undeclared() -> None:
    """
    Take zope's descriptor off classes that nobody has declared an interface for.

    ``implementedBy`` puts a ``__provides__`` on each base of a class that it is asked about:
    on ``abc.ABC``, ``typing.Generic``, ``asyncio.Protocol``, as soon as Twisted declares what
    a class of its own implements.  Subclasses inherit it, ``dir()`` lists it, and it raises
    :exc:`AttributeError` for each of them: whoever walks the attributes of a class fails
    (Gradio does).  Without the descriptor zope answers the same: no interface.  It does not
    come back, as zope keeps beside it that it knows the class.
    """
    waiting: list[type] = [object]
    seen: set[type] = set()
    while waiting:
        below: list[type] = type.__subclasses__(waiting.pop())
        waiting.extend(each for each in below if each not in seen)
        seen.update(below)
    for found in seen:
        package = str(found.__module__).partition(".")[0]
        if package in _OWN_PACKAGES or package.startswith("_zope"):
            continue
        provides = vars(found).get("__provides__")
        if not isinstance(provides, ClassProvides) or list(provides):
            continue
        if not list(implementedBy(found)):
            delattr(found, "__provides__")


def free_forks() -> None:
    """
    Give processes that the application forks (:mod:`multiprocessing`) Python's own handlers.

    They would inherit ours, which ask this worker's reactor to act: SIGTERM would not end
    them, and a pool waits for that for ever.
    """
    os.register_at_fork(after_in_child=_take_handlers_back)


def _take_handlers_back() -> None:
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGTERM, signal.SIGCHLD):
        if callable(signal.getsignal(signum)):
            signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
