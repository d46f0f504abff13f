"""
The names of what is logged: :mod:`stickyd.log.events`.
"""

from __future__ import annotations

import re
from pathlib import Path

from docs.extensions.events_page import PAGE, calls, written
from stickyd.log.events import EVENTS, LONGEST_NAME

PACKAGE = Path(__file__).resolve().parents[2] / "stickyd"


def test_every_event_has_a_name() -> None:
    """
    Whatever is logged has an ``event=`` that the table knows, and the table knows no other.
    """
    nameless, used = [], set()
    for path in PACKAGE.rglob("*.py"):
        for line, _, text, name in calls(path.read_text()):
            if name in EVENTS:
                used.add(name)
            else:
                nameless.append(f"{path.relative_to(PACKAGE)}:{line} ({name}): {text[:60]}")
    assert nameless == [], "give it event=, with a row in stickyd/log/events.py"
    assert EVENTS.keys() - used == set()


def test_names_have_one_form() -> None:
    """
    A name is a subject and what happened, in words that any system of logs can search for.
    """
    for name in EVENTS:
        assert re.fullmatch(r"[a-z0-9]+\.[a-z0-9]+(-[a-z0-9]+)*", name), name
        assert len(name) <= LONGEST_NAME


def test_the_page_is_that_of_the_code() -> None:
    """
    ``docs/events.md`` has every event, with its level and its text (write them:
    ``python -m docs.extensions.events_page``).
    """
    page = PAGE.read_text()
    assert page == written(page)
    assert "| `worker.online` | info | `Worker {pid} online` |" in page
