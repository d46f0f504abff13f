# mypy: allow-untyped-calls
# (h2 is not annotated throughout.)
"""
The state of an HTTP/2 connection: h2's, corrected where it does not keep to the RFC.

What of h2's internals this module stands on: that ``H2Connection`` has all frames that it sends
pass ``_prepare_for_sending``, sends its own GOAWAY by ``_terminate_connection``, takes one by
``_receive_goaway_frame``, and heeds settings in ``_acknowledge_settings``; and that
``incoming_buffer._data`` is what is not yet a frame.  The tests hold them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, RequestReceived, StreamReset
from h2.exceptions import FrameTooLargeError, ProtocolError
from h2.settings import SettingCodes
from hpack.exceptions import HPACKError
from hyperframe.exceptions import InvalidDataError
from hyperframe.frame import GoAwayFrame, RstStreamFrame
from twisted.logger import Logger
from typing_extensions import override

if TYPE_CHECKING:
    from h2.events import Event
    from hyperframe.frame import Frame

    from stickyd.serve.http.limits import HTTPLimits

#: What HPACK adds to each field when it counts (RFC 7541, 4.1).
_FIELD_OVERHEAD = 32

_LAST_STREAM = 2**31 - 1

#: What we remember of the heads of responses, to compress those that follow.  A client may
#: allow four gigabytes, each of which is searched for each field (RFC 7541, 4.2: we need not).
_TABLE_BYTES = 4096

#: Of the length at the head of a frame.
_LENGTH_BYTES = 3

#: That we do not heed the priorities of RFC 7540 (RFC 9218, section 2.1).
_NO_RFC7540_PRIORITIES = 9


class StrictConnection(H2Connection):
    """
    The state of a connection, which tells the client of each of its mistakes.

    h2 sends no GOAWAY for a bad preface, and not the right one for a broken header block
    and for an acknowledgement of settings with a payload; it takes a GOAWAY of the
    client as the end of all its streams; it does not tell of each stream that it has
    reset for a mistake of the client's; it waits for all of a frame, be it of 16 MB,
    before it says that it is too large; and it remembers of the heads of its responses as
    much as the client likes.
    """

    _log = Logger()

    def __init__(self, limits: HTTPLimits) -> None:
        self._own_resets: list[tuple[int, int]] = []
        super().__init__(H2Configuration(client_side=False, header_encoding=None))
        # Up to twice what is allowed is taken and answered with 431; more ends the
        # connection, as HPACK's state is lost with what is not decoded.
        most = 2 * limits.head_bytes + limits.head_fields * _FIELD_OVERHEAD
        self.local_settings[SettingCodes.MAX_HEADER_LIST_SIZE] = most
        self.local_settings[_NO_RFC7540_PRIORITIES] = 1
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
            self._refuse_large_frame()
        except ProtocolError as error:
            self.close_connection(_code_of(error))
            raise
        except Exception as error:
            self._log.failure("h2 failed", event="http2.failed")
            self.close_connection(ErrorCodes.INTERNAL_ERROR)
            raise ProtocolError("h2 failed") from error
        return self._with_all_resets(events)

    def _refuse_large_frame(self) -> None:
        waiting = self.incoming_buffer._data
        if len(waiting) >= _LENGTH_BYTES:
            length = int.from_bytes(waiting[:_LENGTH_BYTES], "big")
            if length > self.max_inbound_frame_size:
                raise FrameTooLargeError(f"a frame of {length} bytes")

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
    def _acknowledge_settings(self) -> list[Frame]:
        frames: list[Frame] = super()._acknowledge_settings()
        if self.encoder.header_table_size > _TABLE_BYTES:
            self.encoder.header_table_size = _TABLE_BYTES
        return frames

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
