"""
Event streams (WHATWG HTML, section 9.2): responses that do not end by themselves.
"""

from __future__ import annotations

EVENT_STREAM = b"text/event-stream"


def is_event_stream(content_type: bytes) -> bool:
    """
    Tell whether a response of this type is one.
    """
    return content_type[: len(EVENT_STREAM)].lower() == EVENT_STREAM
