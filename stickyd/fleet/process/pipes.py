"""
The pipes from a worker's standard output and error, whoever has started the worker.

Twisted has a transport for each pipe of a process that it has started; of another one
(:class:`stickyd.fleet.process.adopted_process.AdoptedProcess`) there are only the descriptors.
"""

from __future__ import annotations

from typing import Any


def pipes_of(process: Any) -> dict[int, int]:
    """
    Give our ends of the pipes, by the worker's own descriptor number (1, 2).
    """
    return {
        number: pipe if isinstance(pipe, int) else pipe.fileno()
        for number, pipe in process.pipes.items()
        if number in (1, 2)
    }


def set_reading(process: Any, number: int, reads: bool) -> None:
    """
    Read what the worker writes to a descriptor, or let it wait.
    """
    pipe = process.pipes.get(number)
    if isinstance(pipe, int):
        process.read(number, reads)
    elif pipe is not None:
        (pipe.resumeProducing if reads else pipe.pauseProducing)()
