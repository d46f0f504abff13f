"""
The descriptors of this process: which of them its children get, and how many there may be.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Standard input, output and error: what every child may have.
_STANDARD = 3


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
        if descriptor >= _STANDARD:
            with suppress(OSError):
                os.set_inheritable(descriptor, False)
