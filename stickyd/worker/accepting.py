"""
Accepting in the worker, where the kernel steers.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from stickyd.affinity.key_counts import KeyCounts
from stickyd.affinity.spec import parse_affinity
from stickyd.figures.page import KERNEL, new_page
from stickyd.handoff.frame import Handoff
from stickyd.net.accept_loop import AcceptLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IReactorTime

    from stickyd.interfaces import IReadiness
    from stickyd.worker.known_clients import KnownClients
    from stickyd.worker.outbox import Outbox
    from stickyd.worker.slot_map import SlotMap


class Listening:
    """
    The listening sockets that this worker was entrusted with.

    What is accepted is served as if it had been handed over.  But a client whose key belongs
    to another slot goes to the primary: the kernel may not have heard of a new placement yet,
    or the client may have waited in the queue since before.

    :ivar accepted: how many connections were accepted and are served here.
    :ivar key_counts: counts them by key, for the next heartbeat.
    """

    def __init__(
        self,
        clock: IReactorTime,
        readiness: IReadiness,
        affinity: Sequence[str],
        adopt: Callable[[Handoff], None],
        window: Callable[[], int],
        places: SlotMap,
        outbox: Outbox,
        page: memoryview | None = None,
    ) -> None:
        """
        :param affinity: the setting; asked for only if there are sockets to accept from.
        :param adopt: serves what is accepted.
        :param window: says how many more there is room for.
        :param page: of figures, where connections are counted.
        """
        self._clock = clock
        self._readiness = readiness
        self._affinity = affinity
        self._adopt = adopt
        self._window = window
        self._places = places
        self._outbox = outbox
        self._known: KnownClients | None = None
        self._key_of: Callable[[str], bytes]
        self._loops: dict[object, tuple[socket.socket, AcceptLoop]] = {}
        self._page = new_page() if page is None else page
        self.accepted = 0
        self.key_counts = KeyCounts()
        self._accepting = True
        self._orphaned = False
        self._over = False

    def add(self, handoff: Handoff) -> None:
        """
        Accept from a listening socket, from now until we are told not to.
        """
        sock = socket.socket(fileno=handoff.descriptor)
        if self._over:
            sock.close()
            return
        if not self._loops:
            key = parse_affinity(self._affinity).keys[0]
            self._key_of = key.key_of  # type: ignore[assignment]  # it is an address's
        # The control channel tells a spare its slot, and every worker how many slots there
        # are.  It may do so later than this, or sooner; then what it told may be newer.
        self._places.occupy(handoff.slot)
        if not self._places.slots:
            slots = int(handoff.unread)
            self._places.update(slots, range(slots))
        # A primary that has replaced itself entrusts us with the same socket again.
        self._drop(sock.getsockname())
        loop = AcceptLoop(self._clock, self._readiness, sock, self._take, self._window)
        self._loops[sock.getsockname()] = sock, loop
        if self._accepting:
            loop.start()

    def _take(self, descriptor: int, host: str, port: int) -> None:
        key = self._key_of(host)
        handoff = Handoff(descriptor, host, port, key)
        if self._orphaned or self._is_ours(handoff):
            self.accepted += 1
            self._page[KERNEL] += 1
            self.key_counts.add(key, host)
            self._adopt(handoff)
        else:
            self._outbox.send(handoff)

    def keep_clients(self, known: KnownClients) -> None:
        """
        Mind that another worker may keep a client that the kernel sends us.

        :param known: our clients.
        """
        self._known = known

    def _is_ours(self, handoff: Handoff) -> bool:
        places, known = self._places, self._known
        if known is None:
            return places.slot_of(handoff.key) == places.slot
        if known.has_key(handoff.key):
            return known.meets(handoff)
        # Who is unknown here may be known to another worker: the primary knows.
        ours = not (places.keyed or known.is_relieved)
        ours = ours and places.slot_of(handoff.key) == places.slot
        return ours and known.meets(handoff)

    def look(self) -> None:
        """
        Called when there may be room for connections again.
        """
        if self._accepting:
            for _, loop in self._loops.values():
                loop.start()

    def released(self, slots: int, available: Sequence[int]) -> None:
        """
        Called with each new placement, before anything is given away by it.

        :param slots: 0 if our successor takes over.
        """
        if not slots or self._places.slot not in available:
            self._accepting = False
            for _, loop in self._loops.values():
                loop.pause()

    def accept(self) -> None:
        """
        Called when our slot is available again, or our successor has died.
        """
        self._accepting = True
        self.look()

    def close(self) -> None:
        """
        Accept no more.  What is queued waits for our successor, if the primary lives.
        """
        self._over = True
        for address in list(self._loops):
            self._drop(address)

    def close_orphaned(self) -> None:
        """
        Accept what is queued and then no more: the primary is dead, so nobody else accepts it.
        """
        self._orphaned = True
        for _, loop in self._loops.values():
            loop.stop()
        self.close()

    def _drop(self, address: object) -> None:
        sock, loop = self._loops.pop(address, (None, None))
        if sock is not None and loop is not None:
            loop.pause()
            sock.close()
