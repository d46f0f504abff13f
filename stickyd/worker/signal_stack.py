"""
Room for signals that come all at once.

Python's handlers of signals run on the alternate stack of a thread, if it has one (SA_ONSTACK), and
:mod:`faulthandler` gives the main thread one that has room for a few: of eight that come at once
the kernel stacks up the frames of all before the first handler runs, and the process dies of
SIGSEGV.
"""

from __future__ import annotations

import ctypes
import sys
from mmap import mmap

#: Room for each of the 64 signals there are, whose frame has all of the processor's registers.
STACK_BYTES = 64 * 16 * 1024

#: Kept for as long as the process lives.
_stacks: list[tuple[mmap, object]] = []


class _Stack(ctypes.Structure):
    """
    ``stack_t`` of sigaltstack(2) on Linux.
    """

    _fields_ = (
        ("ss_sp", ctypes.c_void_p),
        ("ss_flags", ctypes.c_int),
        ("ss_size", ctypes.c_size_t),
    )


def enlarge_signal_stack() -> None:
    """
    Give the thread that calls this a large alternate stack; on Linux only.
    """
    if sys.platform != "linux":
        return
    memory = mmap(-1, STACK_BYTES)
    start = ctypes.c_char.from_buffer(memory)
    stack = _Stack(ctypes.addressof(start), 0, STACK_BYTES)
    if ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0:
        _stacks.append((memory, start))
