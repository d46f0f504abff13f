"""
The descriptors of this process: which of them its children get, and how many there may be.
"""

from __future__ import annotations

import errno
import os
import resource
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Standard input, output and error: what every child may have.
_STANDARD_DESCRIPTORS = 3

#: The parts of the primary's descriptors that connections may have while they wait: for a
#: worker; for more of their first bytes; for a refused client to read why.  What is left is
#: for connections on their way, and for the primary itself.
QUEUED_SHARE = 1 / 3
PEEKED_SHARE = 1 / 3
REFUSED_SHARE = 1 / 8

#: accept(2): want of descriptors or memory.  The connection stays in the kernel's queue.
OVERLOADS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

#: What sendmsg(2) and unix(7) name as passing shortages, which no writability event ends.
SHORTAGES = frozenset({errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})

#: What is taken for the limit of a process that has none.
_UNLIMITED_DESCRIPTORS = 1 << 20


def share_of(part: float) -> int:
    """
    A part of as many descriptors as this process may have open now.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return int((_UNLIMITED_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft) * part)


def keep_from_children(descriptors: Iterable[int] | None = None) -> None:
    """
    Have no child of this process inherit descriptors, however it is started: ``os.system``
    and ``posix_spawn`` close none by themselves.

    :param descriptors: which; by default all that are open but the three standard ones.
        One that is not open is passed over.
    """
    if descriptors is None:
        descriptors = [int(name) for name in os.listdir("/dev/fd")]
    for descriptor in descriptors:
        if descriptor >= _STANDARD_DESCRIPTORS:
            with suppress(OSError):
                os.set_inheritable(descriptor, False)
