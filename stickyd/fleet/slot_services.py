"""
The seams through which slots get workers and listening sockets: what is behind them (processes,
the kernel) is no business of the pure code of the slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stickyd.fleet.interfaces import IWorker
    from stickyd.fleet.slot import Slot


class ISteering(Interface):
    """
    Told by the fleet what the kernel must know to place connections as the fleet does.
    """

    def prepare(slots: int) -> str:
        """
        Make sure that there can be so many slots, before anything moves.

        :return: an empty text, or the reason why there cannot.
        """

    def placed(slots: Sequence[Slot], available: Sequence[int]) -> None:
        """
        Called when clients are placed on these slots from now on.

        :param slots: by index; no others get clients.
        :param available: the indices of the available ones, ascending.
        """

    def occupied(slot: Slot) -> None:
        """
        Give the worker that has begun to serve a slot what it accepts from.
        """


class ISpawner(Interface):
    """
    Makes workers.
    """

    spare: bool = Attribute("Whether a started worker waits to be given a slot.")

    def call_when_spare(call: Callable[[], bool]) -> None:
        """
        Have ``call`` called when a spare becomes ready: one of those that wait for each spare,
        in their order.  It is never called if there are to be no spares.

        :param call: returns whether it wants the spare.
        """

    def restore(
        slot: Slot, ready: Callable[[], None], died: Callable[[str], None], plain: dict[str, Any]
    ) -> IWorker:
        """
        Have a worker that was started before the primary replaced itself.

        :param plain: its state, as the former primary wrote it down.
        :return: the worker, which is ready: ``ready`` is not called.
        """

    def spawn(slot: Slot, ready: Callable[[], None], died: Callable[[str], None]) -> IWorker:
        """
        Start a worker for a slot.

        :param ready: called once, when the worker can take connections.
        :param died: called once, in a later turn of the reactor, when its process has
            ended or could not be started; the text says how.  Never followed by ``ready``.
        """
