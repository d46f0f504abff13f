"""
The primary's end of the page that a worker counts on.
"""

from __future__ import annotations

import os
import sys
import tempfile
from struct import Struct
from typing import TYPE_CHECKING, Any

from stickyd.errors import ControlError
from stickyd.figures.page import NUMBERS, PAGE_BYTES
from stickyd.figures.worker_figures import WorkerFigures

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBERS = Struct(f"={NUMBERS}Q")
_NOTHING = b"\0" * PAGE_BYTES


class FiguresPage:
    """
    Reads what the worker has written.

    The page is a file that no directory has.  It is read, not mapped: a worker that cuts it
    short hurts nobody but itself.

    :ivar figures: what was read.
    """

    def __init__(self) -> None:
        self.figures = WorkerFigures()
        self._descriptor = -1
        self._seen = _NOTHING
        self._size_bytes = PAGE_BYTES

    def open(self) -> int:
        """
        Make the page.

        :return: its descriptor, for the worker; it remains ours.
        :raises OSError: if the machine has no room for it.
        """
        self._descriptor = _unnamed_file()
        return self._descriptor

    def read(self) -> Sequence[int]:
        """
        Read the page.

        :return: by how much each number has grown since it was read last; empty if none has.
        :raises ControlError: if that cannot be what a worker of ours has counted.
        """
        if self._descriptor < 0:
            return ()
        page = os.pread(self._descriptor, self._size_bytes, 0)
        if page == self._seen:
            return ()
        if len(page) < self._size_bytes:
            raise ControlError(f"a page of {len(page)} bytes, where it has {self._size_bytes}")
        grown = self.figures.see(_NUMBERS.unpack(page.ljust(PAGE_BYTES, b"\0")))
        self._seen = page
        return grown

    def close(self) -> None:
        """
        Forget the page.
        """
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # a primary that replaces itself

    def dump_state(self) -> dict[str, Any] | None:
        """
        The page as JSON can carry it, for :meth:`restore_state`; nothing is closed.
        """
        if self._descriptor < 0:
            return None
        numbers = list(self.figures.numbers)
        return {"descriptor": self._descriptor, "numbers": numbers}

    def restore_state(self, plain: dict[str, Any] | None) -> None:
        """
        Go on with a page.

        :param plain: None of a worker that has none, as an older version has started it.
        """
        if plain is None:
            return
        self._descriptor = plain["descriptor"]
        os.set_inheritable(self._descriptor, False)
        # The worker's own version may count less, or more.
        self._size_bytes = min(os.fstat(self._descriptor).st_size, PAGE_BYTES)
        numbers = plain["numbers"][:NUMBERS]
        self.figures.see([*numbers, *[0] * (NUMBERS - len(numbers))])


def _unnamed_file() -> int:
    if sys.platform == "linux":
        descriptor = os.memfd_create("stickyd figures")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, PAGE_BYTES)
    return descriptor
