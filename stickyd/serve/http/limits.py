"""
What one connection may ask of a worker: sizes and times.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class HTTPLimits:
    """
    The bounds that the HTTP/1.1 channel enforces.

    Sizes are in bytes, times in seconds; :obj:`None` means no bound.  Times are kept
    by one timer with steps of a second, so an action comes up to two seconds late.

    :ivar head_bytes: request line and fields together; past it 431.
    :ivar head_fields: how many fields; past it 431.
    :ivar target_bytes: the request target; past it 414.
    :ivar body_bytes: the content of one request, whatever its framing; past it 413.
    :ivar form_bytes: a form of which a resource asks ``request.args``; past it 413.
    :ivar form_fields: how many fields such a form may have; past it 413.
    :ivar read_ahead_bytes: how much is read, by one read more at most, while a request is
        being answered.  Past it the connection is not read until the answer is done.
    :ivar idle: without a byte between two requests, or before the first: closed silently.
    :ivar head: from the first byte of a head to its last; past it 408.
    :ivar body: between two pieces of a body; past it 408.
    :ivar stall: while the client takes nothing of what fills the write buffer: aborted.
    :ivar linger: how long input is still read and dropped after a close of ours, so that
        the client gets the answer and not a reset.
    :ivar first: how long an idle TLS connection that shall be closed waits for one more
        request, which may be on its way: its client would take the close for a failure.
    :ivar host_required: whether HTTP/1.1 requests without ``Host`` get 400, as RFC 9112
        section 3.2 demands.  Some health checks know no better.
    """

    head_bytes: int = 32768
    head_fields: int = 128
    target_bytes: int = 8192
    body_bytes: int | None = 1 << 30
    form_bytes: int | None = 32 << 20
    form_fields: int = 4096
    read_ahead_bytes: int = 16384
    idle: float | None = 75.0
    head: float | None = 20.0
    body: float | None = 60.0
    stall: float | None = 300.0
    linger: float = 5.0
    first: float = 2.0
    host_required: bool = True

    def __post_init__(self) -> None:
        """
        Check the values.

        :raise ValueError: names the first one that is out of range.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            lowest = 1 if field.name in {"head_bytes", "head_fields", "target_bytes"} else 0
            if value is not None and value < lowest:
                raise ValueError(f"{field.name} must be at least {lowest}, not {value!r}")
