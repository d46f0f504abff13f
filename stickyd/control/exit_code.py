"""
The exit code of a process that ``twistd`` runs.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys


class ExitCode:
    """
    Has the process end with a code of ours: ``twistd`` knows only success and signals.

    Make it early: what was registered with :mod:`atexit` later still runs.
    """

    def __init__(self) -> None:
        self._code = 0
        atexit.register(self._apply)

    def set(self, code: int) -> None:
        """
        End with ``code`` whenever the process ends by itself.
        """
        self._code = code

    def _apply(self) -> None:
        if self._code:
            # The interpreter would do that after us.
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            os._exit(self._code)
