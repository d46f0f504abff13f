# mypy: allow-untyped-calls
# (h2 is not annotated throughout.)
"""
An HTTP/2 connection whose first bytes were read by another object than serves it, or by
another process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stickyd.serve.http2.strict import StrictConnection

if TYPE_CHECKING:
    from h2.events import Event

    from stickyd.serve.http.limits import HTTPLimits


@dataclass(frozen=True)
class Begun:
    """
    A connection whose client has been answered so far as HTTP/2 itself wants it: settings and
    PINGs, but no request.

    :ivar conn: its state.
    :ivar events: what the client has said, and nobody has acted on.
    """

    conn: StrictConnection
    events: list[Event]

    @classmethod
    def elsewhere(cls, limits: HTTPLimits, said: bytes) -> Begun:
        """
        Give the state of a connection that another process has begun.

        The other has answered what this one would have, byte for byte, as the rules and the
        settings are the same.

        :param said: all that the client has said there.
        :raise h2.exceptions.ProtocolError: if the other has passed on what is not HTTP/2.
        """
        conn = StrictConnection(limits)
        conn.initiate_connection()
        events = conn.receive_data(said)
        conn.clear_outbound_data_buffer()
        return cls(conn, events)
