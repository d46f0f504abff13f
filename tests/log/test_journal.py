"""
The latest events, as operators are told them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger, LogPublisher
from twisted.python.threadable import registerAsIOThread

from stickyd.log.journal import LONGEST_TEXT, MOST_EVENTS, Journal

if TYPE_CHECKING:
    from collections.abc import Callable


def journal_of(called: list[Callable[[], object]] | None = None) -> tuple[Journal, Logger]:
    """
    A journal, and what it hears.

    :param called: what is to be called in the reactor's thread.
    """
    registerAsIOThread()
    later = [] if called is None else called
    journal = Journal(lambda call, *given: later.append(lambda: call(*given)))
    return journal, Logger(observer=LogPublisher(journal))


def test_only_named_events_are_kept_and_not_for_ever() -> None:
    """
    What applications print, and what has no name, is not; nor is what is too old or too long.
    """
    journal, log = journal_of()
    log.info("nameless")
    log.info("printed", event="worker.output")
    log.debug("detail", event="worker.online")
    assert not journal.events
    for number in range(MOST_EVENTS + 3):
        log.warn("event {number} {more}", event="x.y", number=number, more="x" * 1000)
    assert len(journal.events) == MOST_EVENTS
    last = journal.events[-1]
    assert (last["id"], last["level"], last["event"]) == (MOST_EVENTS + 3, "warn", "x.y")
    assert last["text"].startswith(f"event {MOST_EVENTS + 2} x")
    assert len(last["text"]) == LONGEST_TEXT + 1
    assert [each["id"] for each in journal.after(MOST_EVENTS + 1)] == [
        MOST_EVENTS + 2,
        MOST_EVENTS + 3,
    ]


def test_slot_of_a_worker_is_known_from_what_was_said_before() -> None:
    """
    However an event names its worker, it is found by the slot.
    """
    journal, log = journal_of()
    log.info("started", event="worker.started", pid=7, place="slot 3")
    log.info("online", event="worker.online", pid=7)
    log.info("hangs", event="worker.hangs", worker="8 (slot 2)")
    log.info("spare", event="worker.started", pid=9, place="spare")
    told = [(each.get("slot"), each.get("pid")) for each in journal.events]
    assert told == [(3, 7), (3, 7), (2, 8), (None, 9)]


def test_events_of_other_threads_come_in_the_reactors() -> None:
    """
    Whoever watches is never called in another thread than its own.
    """
    called: list[Callable[[], object]] = []
    journal, log = journal_of(called)
    heard: list[Any] = []
    stop = journal.watch(heard.append)
    thread = threading.Thread(target=lambda: log.info("elsewhere", event="x.y"))
    thread.start()
    thread.join()
    assert not heard
    (call,) = called
    call()
    assert [each["text"] for each in heard] == ["elsewhere"]
    stop()
    stop()
    log.info("unheard", event="x.y")
    assert len(heard) == 1


def test_a_primary_that_replaces_itself_goes_on() -> None:
    """
    The new code knows what happened before it, and counts on.
    """
    journal, log = journal_of()
    log.info("before", event="x.y")
    later, log = journal_of()
    later.restore_state(journal.dump_state())
    log.info("after", event="x.y")
    assert [(each["id"], each["text"]) for each in later.events] == [(1, "before"), (2, "after")]
