"""
What a client may send over HTTP/2, and what it is told if it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, RequestReceived, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hpack.exceptions import HPACKError
from hyperframe.exceptions import InvalidDataError
from hyperframe.frame import GoAwayFrame, RstStreamFrame
from twisted.logger import Logger
from typing_extensions import override

from stickyd.serve.http.head import is_host, is_target, is_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from h2.events import Event
    from hyperframe.frame import Frame

    from stickyd.serve.http.limits import HTTPLimits

#: What HPACK adds to each field when it counts (RFC 7541, 4.1).
_FIELD_OVERHEAD = 32

_LAST_STREAM = 2**31 - 1


class StrictConnection(H2Connection):
    """
    The state of a connection, which tells the client of each of its mistakes.

    h2 sends no GOAWAY for a bad preface, and not the right one for a broken header block
    and for an acknowledgement of settings with a payload; it takes a GOAWAY of the
    client as the end of all its streams; and it does not tell of each stream that it has
    reset for a mistake of the client's.
    """

    _log = Logger()

    def __init__(self, limits: HTTPLimits) -> None:
        self._own_resets: list[tuple[int, int]] = []
        super().__init__(H2Configuration(client_side=False, header_encoding=None))
        # Up to twice what is allowed is taken and answered with 431; more ends the
        # connection, as HPACK's state is lost with what is not decoded.
        most = 2 * limits.head_bytes + limits.head_fields * _FIELD_OVERHEAD
        self.local_settings[SettingCodes.MAX_HEADER_LIST_SIZE] = most
        self.local_settings.acknowledge()
        self.decoder.max_header_list_size = most

    @override
    def receive_data(self, data: Any) -> list[Event]:
        """
        Take what the client sent.

        :raise ProtocolError: if it broke the rules; the GOAWAY is ready to be sent.
        """
        self._own_resets.clear()
        try:
            events: list[Event] = super().receive_data(data)
        except ProtocolError as error:
            self.close_connection(_code_of(error))
            raise
        except Exception as error:
            self._log.failure("h2 failed")
            self.close_connection(ErrorCodes.INTERNAL_ERROR)
            raise ProtocolError("h2 failed") from error
        return self._with_all_resets(events)

    def _with_all_resets(self, events: list[Event]) -> list[Event]:
        """
        Tell of the streams that h2 has reset for a mistake of the client's, and have no request
        begun that is over already.
        """
        reset = {event.stream_id for event in events if isinstance(event, StreamReset)}
        for number, code in self._own_resets:
            if number not in reset:
                reset.add(number)
                over = StreamReset(stream_id=number)
                over.error_code, over.remote_reset = ErrorCodes(code), False
                events.append(over)
        if not reset:
            return events
        return [e for e in events if not (isinstance(e, RequestReceived) and e.stream_id in reset)]

    @override
    def _prepare_for_sending(self, frames: list[Frame]) -> None:
        self._own_resets += [
            (frame.stream_id, frame.error_code)
            for frame in frames
            if isinstance(frame, RstStreamFrame)
        ]
        super()._prepare_for_sending(frames)

    @override
    def _terminate_connection(self, error_code: ErrorCodes) -> None:
        """
        Leave it to :meth:`receive_data`.
        """

    @override
    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        # Not a change of state: streams under way may be answered (RFC 9113, 6.8).
        return [], [ConnectionTerminated()]

    def warn(self) -> None:
        """
        Tell the client to begin no more streams, though those that it does are served.
        """
        self._prepare_for_sending([GoAwayFrame(0, _LAST_STREAM)])


def _code_of(error: ProtocolError) -> ErrorCodes:
    cause = error.__cause__
    if isinstance(cause, HPACKError) and error.error_code == ErrorCodes.PROTOCOL_ERROR:
        return ErrorCodes.COMPRESSION_ERROR
    if isinstance(cause, InvalidDataError) and "ACK" in str(cause).upper():
        return ErrorCodes.FRAME_SIZE_ERROR
    return error.error_code


def objection_to(headers: Sequence[tuple[bytes, bytes]], limits: HTTPLimits) -> int:
    """
    Check what h2 does not: the sense of the fields, and their number.

    :return: the status to answer with, or 0 if they are good.
    """
    if len(headers) > limits.head_fields + 4:  # the pseudo-fields
        return 431
    if sum(len(name) + len(value) + 4 for name, value in headers) > limits.head_bytes:
        return 431
    known = {}
    for name, value in headers:
        if name in (b":method", b":path", b":authority", b"host", b"content-length"):
            if name in known:
                return 400
            known[name] = value
    method, target = known[b":method"], known.get(b":path", b"")
    if method == b"CONNECT":
        return 501
    if len(target) > limits.target_bytes:
        return 414
    host = known.get(b":authority", known.get(b"host"))
    if (
        not is_token(method)
        or not is_target(target)
        or not (target[:1] == b"/" or (target == b"*" and method == b"OPTIONS"))
        or (limits.host_required if host is None else not is_host(host))
    ):
        return 400
    length = known.get(b"content-length")
    if length is not None:
        if not length.isdigit():
            return 400
        if limits.body_bytes is not None and int(length) > limits.body_bytes:
            return 413
    return 0
