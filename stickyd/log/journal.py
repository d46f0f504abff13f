"""
The latest events of the log, for operators who ask.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import ILogObserver, LogLevel, formatEvent
from twisted.python.threadable import isInIOThread
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

MOST_EVENTS: Final = 500
"""
How many are kept.
"""

LONGEST_TEXT: Final = 600
"""
Characters of each.
"""

#: What is not the server's own.
_LEFT_OUT = frozenset({"worker.output", "trial.output", "admin.token"})

#: How a worker is named: stickyd.fleet.process.label.
_LABEL = re.compile(r"(\d+) \(slot (\d+)\)")
_PLACE = re.compile(r"slot (\d+)")


@implementer(ILogObserver)
class Journal:
    """
    Keeps the events that have a name, newest last.

    :ivar events: each with ``id``, which grows by one; ``time``, seconds since 1970; ``level``,
        ``event``, ``text``, and ``slot`` and ``pid`` if it is about those.
    """

    def __init__(self, in_reactor: Callable[..., object]) -> None:
        """
        :param in_reactor: calls a function in the reactor's thread; events come from any.
        """
        self.events: deque[dict[str, Any]] = deque(maxlen=MOST_EVENTS)
        self._in_reactor = in_reactor
        self._last = 0
        self._slots: dict[int, int] = {}  # of workers, by pid
        self._watchers: list[Callable[[dict[str, Any]], object]] = []

    def __call__(self, event: Any) -> None:
        """
        Keep an event.
        """
        name = event.get("event")
        level = event.get("log_level", LogLevel.info)
        if not isinstance(name, str) or name in _LEFT_OUT or level is LogLevel.debug:
            return
        text = formatEvent(event)
        kept = {
            "time": event.get("log_time", 0.0),
            "level": level.name,
            "event": name,
            "text": text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…",
            **_about(event),
        }
        if isInIOThread():
            self._keep(kept)
        else:
            self._in_reactor(self._keep, kept)

    def _keep(self, kept: dict[str, Any]) -> None:
        self._last += 1
        kept["id"] = self._last
        if "pid" in kept:
            self._complete(kept)
        self.events.append(kept)
        for watcher in list(self._watchers):
            watcher(kept)

    def _complete(self, kept: dict[str, Any]) -> None:
        """
        Add the slot of a worker of which only the pid is told.
        """
        pid, slots = kept["pid"], self._slots
        if "slot" in kept:
            slots[pid] = kept["slot"]
            if len(slots) > MOST_EVENTS:
                del slots[next(iter(slots))]
        elif pid in slots:
            kept["slot"] = slots[pid]

    def watch(self, call: Callable[[dict[str, Any]], object]) -> Callable[[], None]:
        """
        Have ``call`` called with each event from now on.

        :return: ends that; it may be called twice.
        """
        self._watchers.append(call)

        def stop() -> None:
            if call in self._watchers:
                self._watchers.remove(call)

        return stop

    def after(self, last: int) -> list[dict[str, Any]]:
        """
        Those after the one of that id, as far as they are kept.
        """
        return [event for event in self.events if event["id"] > last]

    # a primary that replaces itself

    def dump_state(self) -> Sequence[dict[str, Any]]:
        """
        The events as JSON can carry them.
        """
        return list(self.events)

    def restore_state(self, events: Iterable[Mapping[str, Any]]) -> None:
        """
        Go on from what :meth:`dump_state` gave.
        """
        for event in events:
            self.events.append(dict(event))
            self._last = max(self._last, event["id"])


def _about(event: Any) -> dict[str, int]:
    """
    The worker and the slot that an event is about, as far as it says so.
    """
    about = {key: event[key] for key in ("slot", "pid") if type(event.get(key)) is int}
    label = _LABEL.fullmatch(str(event.get("worker", "")))
    if label is not None:
        about.update(pid=int(label[1]), slot=int(label[2]))
    place = _PLACE.fullmatch(str(event.get("place", "")))
    if place is not None:
        about["slot"] = int(place[1])
    return about
