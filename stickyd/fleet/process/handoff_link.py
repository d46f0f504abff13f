"""
The connections between the primary and one worker, both ways.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from stickyd.errors import WorkerError
from stickyd.handoff.admission import admit_from_worker
from stickyd.handoff.channel import HandoffChannel
from stickyd.handoff.frame import MAX_WINDOW, Flag, Purpose
from stickyd.interfaces import IHandoffReceiver
from stickyd.net.throttle import Throttle
from stickyd.net.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Callable, Sized
    from socket import socket

    from twisted.internet.interfaces import IReactorTime

    from stickyd.fleet.interfaces import IFleet
    from stickyd.fleet.process.label import WorkerLabel
    from stickyd.fleet.process.termination import Termination
    from stickyd.fleet.slot import Slot
    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IReadiness

#: Seconds until a primary without a free descriptor looks again whether it has one.
STARVED_SECONDS = 0.05


#: Seconds between two lines in the log about that.
QUIET_SECONDS = 10.0


@implementer(IHandoffReceiver)
class HandoffLink:
    """
    The primary's end of a worker's handoff channel, with what waits to be sent or taken.

    :ivar channel: the channel, once there is one.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        readiness: IReadiness,
        window: int,
        fleet: IFleet,
        slot: Slot | None,
        label: WorkerLabel,
        termination: Termination,
        moved_on: Callable[[bytes], object],
    ) -> None:
        """
        :param window: how many connections may be on their way back to us.
        :param slot: the one that the worker occupies, if it is no spare.
        :param termination: ends the worker if it breaks the protocol.
        :param moved_on: told of an affinity key whose client the worker does not know.
        """
        self._clock = clock
        self._readiness = readiness
        self._most = window
        self._fleet = fleet
        self._slot = slot
        self._label = label
        self._termination = termination
        self._moved_on = moved_on
        self.channel: HandoffChannel | None = None
        self._entrusted: deque[Handoff] = deque()
        self._waiting = Waiters()
        self._starved = False
        self._throttle = Throttle(clock.seconds, QUIET_SECONDS)

    def connect(self, sock: socket) -> HandoffChannel:
        """
        Make the channel.

        :param sock: our end, which the channel closes.
        """
        self.channel = HandoffChannel(
            self._readiness,
            self._clock,
            sock,
            self,
            self._window,
            admit_from_worker,
            MAX_WINDOW,
        )
        return self.channel

    def occupy(self, slot: Slot) -> None:
        """
        Called when the worker, a spare until now, is given a slot.
        """
        self._slot = slot

    def _window(self) -> int:
        slot = self._slot
        if self._fleet.pressed or (slot is not None and slot.pressed):
            self._close_window()
        return 0 if self._starved else self._most

    def _close_window(self) -> None:
        """
        Take nothing back for a moment.
        """
        if not self._starved:
            self._starved = True
            self._clock.callLater(STARVED_SECONDS, self._fed)

    @property
    def quiet(self) -> bool:
        """
        Whether nothing is half done.
        """
        return self.channel is not None and self.channel.quiet and not self._entrusted

    @property
    def in_flight(self) -> Sized:
        """
        What the worker has neither acknowledged nor refused.
        """
        return () if self.channel is None else self.channel.in_flight

    @property
    def sent(self) -> int:
        """
        How many connections were sent so far.
        """
        return 0 if self.channel is None else self.channel.sent

    def entrust(self, listener: Handoff) -> None:
        """
        Send a listening socket, beside the slot's queue.
        """
        self._entrusted.append(listener)
        self.room()

    def when_taken(self) -> Deferred[None]:
        """
        Wait until the worker has taken all that was sent to it, or :meth:`wait_no_more`.

        :return: fires then; fails with :exc:`WorkerError` at :meth:`end`.
        """
        taken = self._waiting.wait()
        self.room()
        return taken

    def wait_no_more(self) -> None:
        """
        Go on as if everything were taken.
        """
        self._waiting.fire()

    def end(self) -> None:
        """
        Called when the process has ended.
        """
        self._waiting.fail(WorkerError("the worker ended"))

    def reclaim(self) -> list[Handoff]:
        """
        Close the channel; see :meth:`stickyd.interfaces.IHandoffSender.reclaim`.
        """
        handoffs = [] if self.channel is None else self.channel.reclaim()
        # The listening sockets were for this worker alone; its successor gets its own.
        connections = [h for h in handoffs if h.purpose != Purpose.LISTENER]
        for listener in (*self._entrusted, *handoffs):
            if listener.purpose == Purpose.LISTENER:
                os.close(listener.descriptor)
        self._entrusted.clear()
        return connections

    # IHandoffReceiver

    def received(self, handoff: Handoff) -> None:
        handoff.flags |= Flag.SERVED
        if handoff.flags & Flag.MOVED_ON:
            # Another worker may still keep it, or one that has it next.
            handoff.flags &= ~Flag.MOVED_ON
            self._moved_on(handoff.key)
        if handoff.purpose == Purpose.RESOLVE:
            self._fleet.resolve(handoff)
        else:
            handoff.purpose = Purpose.CONNECTION
            self._fleet.deliver(handoff)

    def returned(self, handoff: Handoff) -> None:
        slot = self._slot
        if handoff.purpose == Purpose.LISTENER:
            # Not at once: a worker that refuses again would keep us busy.
            self._entrusted.append(handoff)
            self._clock.callLater(STARVED_SECONDS, self.room)
        elif slot is None:
            self._fleet.deliver(handoff)
        else:
            slot.returned(handoff)

    def room(self) -> None:
        if self._waiting and not self.in_flight:
            self.wait_no_more()
        channel = self.channel
        while self._entrusted and channel is not None and channel.send(self._entrusted[0]):
            self._entrusted.popleft()
        slot = self._slot
        if slot is not None:
            slot.room()

    def starved(self) -> None:
        # The window closes for a moment: each acknowledgement by another worker frees a
        # descriptor of ours, and to take and refuse meanwhile would be to spin.
        if self._starved:
            return
        self._close_window()
        if self._throttle.due():
            self._log.warn(
                "No descriptor free to take a connection back from worker {pid}: raise the"
                " limit of open files (ulimit -n, LimitNOFILE=)",
                event="handoff.no-descriptor",
                pid=self._label.pid,
            )

    def _fed(self) -> None:
        self._starved = False
        if self.channel is not None:
            self.channel.announce()

    def lost(self) -> None:
        self._termination.channel_lost()

    def broken(self, problem: str) -> None:
        self._termination.breach("handoff channel", problem)
