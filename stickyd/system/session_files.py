"""
The files of sessions, as the primary sees them: their names.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from stickyd.settings.session_url import parse_session_url, parse_sqlite

if TYPE_CHECKING:
    from stickyd.settings import Settings

_FILE = re.compile(r"slot-([0-9]{1,5})\.db")


def are_in_slots(settings: Settings) -> bool:
    """
    Whether sessions are in a store of each slot's own, that outlives its worker.
    """
    return parse_session_url(settings.sessions).scheme == "sqlite"


def has_strays(settings: Settings, slots: int) -> bool:
    """
    Whether sessions were left by another number of slots, so that some are not where their
    clients are placed now.
    """
    if not are_in_slots(settings):
        return False
    url = parse_session_url(settings.sessions)
    directory, _ = parse_sqlite(url)
    try:
        names = [path.name for path in Path(directory).iterdir()]
    except OSError:
        return False  # there is none yet; or the workers say what is wrong
    found = {int(match[1]) for match in map(_FILE.fullmatch, names) if match}
    return bool(found) and found != set(range(slots))
