"""
Being given orphans: what a process's descendants leave behind becomes its child instead of process
1's (prctl(2), ``PR_SET_CHILD_SUBREAPER``).
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SET_CHILD_SUBREAPER = 36
_GET_CHILD_SUBREAPER = 37


@contextmanager
def adopting_orphans() -> Iterator[None]:
    """
    Be given orphans meanwhile; Linux only.

    :raises OSError: if the system refuses it.
    """
    former = ctypes.c_int()
    _control(_GET_CHILD_SUBREAPER, ctypes.byref(former))
    _control(_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))
    try:
        yield
    finally:
        _control(_SET_CHILD_SUBREAPER, ctypes.c_ulong(former.value))


def _control(option: int, argument: object) -> None:
    nothing = ctypes.c_ulong(0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, nothing, nothing, nothing) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
