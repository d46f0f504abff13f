"""
What may happen to a slot's workers: the inputs of their state machine.

They are a file of their own, so that the actions need not know the states: a worker's end is an
input, and :mod:`stickyd.fleet.slot_machine` says what follows from it.
"""

from __future__ import annotations

from collections.abc import Callable  # at run time: Automat evaluates the annotations
from typing import Any, Protocol


class SlotMachine(Protocol):
    """
    The inputs of the machine.
    """

    def start(self) -> None:
        """
        A worker is wanted.
        """

    def inherit(self, plain: dict[str, Any]) -> None:
        """
        The worker that the primary had before it replaced itself serves on.
        """

    def inherit_leaving(self, plains: list[dict[str, Any]]) -> None:
        """
        The workers that the primary had before it replaced itself finish what they have,
        and no other is wanted.
        """

    def ready(self) -> None:
        """
        The worker serves.
        """

    def died(self, cause: str) -> None:
        """
        The worker's process has ended; ``cause`` says how, for the log.
        """

    def retry(self) -> None:
        """
        The back-off is over.
        """

    def give_up(self) -> None:
        """
        There were too many crashes.
        """

    def reload(self, done: Callable[[str], object]) -> None:
        """
        A fresh worker is wanted in place of the present one.  ``done`` is called once:
        with an empty text when it serves, else with the reason why it does not.
        """

    def reinstate(self, done: Callable[[str], object]) -> None:
        """
        The worker that was relieved last, and keeps its clients, shall have the slot again, and
        the present one keep its own.  ``done`` is as for :meth:`reload`.
        """

    def successor_ready(self) -> None:
        """
        The fresh worker could serve.
        """

    def successor_died(self, cause: str) -> None:
        """
        The fresh worker's process has ended.
        """

    def released(self) -> None:
        """
        The old worker has handed over what it could.
        """

    def stop(self, patience: float) -> None:
        """
        No worker is wanted; those there are may finish within ``patience`` seconds.
        """

    def gone(self) -> None:
        """
        The last worker's process has ended after a stop.
        """
