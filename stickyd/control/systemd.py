"""
Telling systemd how the service is: sd_notify(3), without its library.

The protocol is one datagram of ``NAME=value`` lines to the socket that ``NOTIFY_SOCKET``
names (sd_notify(3), *Notes*); a name that begins with ``@`` is in the abstract namespace.
"""

from __future__ import annotations

import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.defer import Deferred

    from stickyd.service import StickyService


def notify(address: str, **assignments: str) -> None:
    """
    Send one notification.

    :param address: the value of ``NOTIFY_SOCKET``.
    :raises BlockingIOError: if the queue of the socket is full.
    :raises OSError: if nobody listens there.
    """
    text = "\n".join(f"{name}={value}" for name, value in assignments.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        target = "\0" + address[1:] if address.startswith("@") else address
        sock.sendto(text.encode(), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT, target)


#: Seconds until a notification that could not be sent is tried again.
RETRY_SECONDS = 0.1


class ServiceManager(Service):
    """
    Reports READY when each slot serves or has failed, and at least one serves; RELOADING before
    a reload and READY after it; WATCHDOG as often as systemd wants it; STOPPING at the end.
    """

    _log = Logger()

    def __init__(self, reactor: Any, sticky: StickyService, environment: Mapping[str, str]) -> None:
        """
        :param environment: ``os.environ``; without ``NOTIFY_SOCKET`` nothing is ever sent.
        """
        self._reactor = reactor
        self._sticky = sticky
        self._address = environment.get("NOTIFY_SOCKET", "")
        # sd_watchdog_enabled(3): the pid says which process it is meant for.
        self._watchdog = int(environment.get("WATCHDOG_USEC", "0") or 0) / 1e6
        self._watchdog_pid = environment.get("WATCHDOG_PID", "")
        self._loops: list[LoopingCall] = []
        self._said_ready = False

    @override
    def startService(self) -> None:
        super().startService()
        if not self._address:
            return
        self._sticky.operations.call_when_reloading(self._reloading)
        self._repeat(0.1, self._look_whether_ready)

    def start_watchdog(self, own_pid: int) -> None:
        """
        Tell systemd that the primary lives, twice as often as systemd wants to hear it.

        :param own_pid: ``os.getpid()``.
        """
        if self._address and self._watchdog and self._watchdog_pid in ("", str(own_pid)):
            self._repeat(self._watchdog / 2, lambda: self._say(WATCHDOG="1"))

    def _repeat(self, seconds: float, call: Any) -> None:
        loop = LoopingCall(call)
        loop.clock = self._reactor
        self._loops.append(loop)
        loop.start(seconds)

    def _look_whether_ready(self) -> None:
        slots = self._sticky.fleet.slots
        settled = [slot for slot in slots if slot.worker is not None or slot.failed]
        serving = any(slot.worker is not None for slot in slots)
        if serving and len(settled) == len(slots):
            self._loops[0].stop()
            self._ready()

    def _ready(self) -> None:
        slots = self._sticky.fleet.slots
        serving = sum(slot.worker is not None for slot in slots)
        self._say(READY="1", STATUS=f"{serving} of {len(slots)} workers serve")

    def _reloading(self, reloaded: Deferred[list[str]]) -> Deferred[list[str]]:
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say(RELOADING="1", MONOTONIC_USEC=str(usec), STATUS="reloading")

        def ready(problems: list[str]) -> list[str]:
            self._ready()
            return problems

        return reloaded.addCallback(ready)

    def _say(self, **assignments: str) -> None:
        try:
            notify(self._address, **assignments)
        except BlockingIOError:
            # The primary waits for nobody.  WATCHDOG comes again by itself.
            if "WATCHDOG" not in assignments:
                self._reactor.callLater(RETRY_SECONDS, partial(self._say, **assignments))
        except OSError as problem:
            self._log.warn(
                "systemd does not listen on {address}: {problem}",
                event="systemd.away",
                address=self._address,
                problem=problem.strerror,
            )

    @override
    def stopService(self) -> None:
        super().stopService()
        for loop in self._loops:
            if loop.running:
                loop.stop()
        self._loops = []
        if self._address:
            self._say(STOPPING="1", STATUS="requests under way may finish")
