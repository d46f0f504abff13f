"""
The message of the handoff channel.

Theory of operation.  A handoff channel is an ``AF_UNIX`` ``SOCK_SEQPACKET`` pair:
one ``sendmsg`` is one message is one frame, so nothing here has to find where a frame
begins.  Both ends speak the same language, because connections travel both ways (to a
worker when they are new; back from it when another slot owns their next request):

=========  ==================  ====================================================
kind       descriptor          meaning
=========  ==================  ====================================================
HANDOFF    exactly one         here is a connection, numbered ``sequence``
ACK        none                everything up to ``sequence`` that was not NACKed has
                               been taken; ``window`` more may be under way
NACK       none                ``sequence`` came without its descriptor: send again
=========  ==================  ====================================================

Sequence numbers start at 1 and rise by 1 in each direction.  Acknowledgements are
cumulative and carry the window, as in TCP (RFC 9293, section 3.8): a receiver that runs
out of descriptors says 0 and says so again when it has room.  The first message of each
end is ``ACK 0`` with its window; before it, nothing may be sent.

The descriptor travels in the same message as the header that describes it
(``SCM_RIGHTS``, unix(7)), so no counting can ever pair a connection with the header of
another one.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final, TypeAlias

from stickyd.affinity.client_identity import BY_KEY as BY_KEY
from stickyd.affinity.client_identity import identity_of
from stickyd.errors import FrameError

VERSION = 1

#: version, kind, purpose, flags, slot, length of address, length of key, sequence, window
_HEADER = Struct("!BBBBHHHQH")
Header: TypeAlias = tuple[int, int, int, int, int, int, int, int, int]

#: The header alone, in bytes: what an ACK or NACK is.
HEADER_BYTES = _HEADER.size

#: The largest frame, in bytes.  Well below the default socket buffer (net.core.wmem_default,
#: 212,992), so that one frame always fits.
MAX_FRAME_BYTES = 136 * 1024

#: Room for the bytes that were read from a connection before it was handed on: the beginning of
#: the longest head that may be set (``--head-bytes``), and what one read has brought beside it.
MAX_UNREAD_BYTES = MAX_FRAME_BYTES - 4096

#: The longest key that travels with a connection.
MAX_KEY_BYTES = 512

#: The most handoffs that may be under way to one process.
MAX_WINDOW = 250


#: A deadline of 0 is none.
_ALMOST_DUE_SECONDS = 0.001


class Kind:
    """
    What a frame says.

    Plain numbers, here and below: to look up a member of an enumeration takes a third of a
    microsecond, an operation on its flags half of one, and every connection needs several.
    """

    HANDOFF: Final = 1
    ACK: Final = 2
    NACK: Final = 3


# Found faster than in their classes, for what every frame is asked.
_HANDOFF: Final = Kind.HANDOFF
_ACK: Final = Kind.ACK

#: The names of the kinds.
KIND_NAMES: Final = {Kind.HANDOFF: "HANDOFF", Kind.ACK: "ACK", Kind.NACK: "NACK"}


class Purpose:
    """
    What the descriptor of a HANDOFF frame is.
    """

    #: A connection of a client, untouched but for ``unread``.
    CONNECTION: Final = 1
    #: A listening socket, whose connections the worker accepts for itself.
    LISTENER: Final = 2
    #: A connection whose next request, which stands whole in ``unread``, only the primary
    #: can place, since its id may be one that another worker minted: the primary looks at
    #: it and sends the connection on as a CONNECTION with :attr:`Flag.PLACED`.
    RESOLVE: Final = 3
    #: A connection whose next request is of a client that the worker of that ``generation`` in
    #: that slot keeps: the primary sends it on as a CONNECTION with :attr:`Flag.PLACED`.
    KEPT: Final = 4


_KEPT: Final = Purpose.KEPT


class Flag:
    """
    What else is to be known about the connection of a HANDOFF frame.
    """

    #: Somebody has looked at the next request and chosen this slot for it: it is served
    #: there, even if the slot sees it otherwise.  So no connection can go in circles while
    #: processes disagree for a moment.
    PLACED: Final = 1
    #: The descriptor is one end of a socket pair that carries the plain text of a TLS
    #: connection; the process at its other end keeps the TLS.
    SECURE: Final = 2
    #: Host and port are what a trusted proxy said of the client, not the socket's own peer:
    #: the socket's family must be asked of the kernel, not read from the host.
    CLAIMED: Final = 4
    #: A worker has had it and given it back: the limits of queues are for newcomers.
    SERVED: Final = 8
    #: The plain text of the TLS connection is HTTP/2, from its first byte on.
    HTTP2: Final = 16
    #: The process that keeps the TLS wants to end: one request more is answered, and the
    #: answer says that it was the last.
    LAST: Final = 32
    #: A trusted proxy's PROXY header says that the client speaks TLS with it.  The connection
    #: itself is as it is: plain, or with another TLS that ends here.
    TLS_BEFORE: Final = 64
    #: The worker that gives the connection back does not know the client of the next request,
    #: or no longer: it goes to whoever else keeps it, or has newcomers.  It is sent to the primary
    #: alone.
    MOVED_ON: Final = 128
    #: Either way the scheme is ``https``.
    HTTPS: Final = SECURE | TLS_BEFORE


class Handoff:
    """
    A connection on its way: a descriptor and what the next process must know about it.

    Mutable, slotted and without validation: one is made per connection.

    :ivar descriptor: the connection.  Whoever holds the handoff closes it.
    :ivar host: the client's address as the listening socket reports it; empty for a
        UNIX socket.
    :ivar port: the client's port; 0 for a UNIX socket.
    :ivar key: the affinity key; empty if the client has none, which makes it a newcomer
        that goes to the least loaded slot.
    :ivar unread: bytes already read from the connection, to be fed first.
    :ivar slot: the slot that must get it, or :data:`BY_KEY`.
    :ivar generation: of the worker of that slot that knows the client, which may be another than
        the one that has the slot now; 0 for that one.  It is sent with the purpose *kept* alone.
    :ivar learned: the id by which the client was found, if it was one that a worker has claimed;
        else empty.  It is never sent.
    :ivar purpose: what the descriptor is.
    :ivar flags: of :class:`Flag`.
    :ivar local: host and port that the client connected to, where the descriptor itself
        cannot tell; else :obj:`None`.
    :ivar newcomer: if no entry of ``--affinity`` knows the client of the last request, the
        host that a trusted proxy named, or an empty text; else :obj:`None`.  It is never sent.
    :ivar seen: what a worker remembers of the last request, so that it need not resolve the
        next one if that says the same.  It is never sent.
    :ivar client: what tells the client of the last request from all others of its worker, where
        workers keep the clients that they know; else :obj:`None`.  It is never sent.
    :ivar sequence: its number on the channel that carries it; 0 before it was sent.
    :ivar deadline: when waiting for a worker ends, in the reactor's seconds; 0.0 while it
        has not waited.
    :ivar refusals: how often a worker answered with NACK.
    """

    __slots__ = (
        "client",
        "deadline",
        "descriptor",
        "flags",
        "generation",
        "host",
        "key",
        "learned",
        "local",
        "newcomer",
        "port",
        "purpose",
        "refusals",
        "seen",
        "sequence",
        "slot",
        "unread",
    )

    def __init__(
        self,
        descriptor: int,
        host: str,
        port: int,
        key: bytes,
        unread: bytes = b"",
        slot: int = BY_KEY,
        purpose: int = Purpose.CONNECTION,
        flags: int = 0,
    ) -> None:
        self.descriptor = descriptor
        self.host = host
        self.port = port
        self.key = key
        self.unread = unread
        self.slot = slot
        self.purpose = purpose
        self.flags = flags
        self.generation = 0
        self.learned = b""
        self.client: bytes | None = None
        self.local: tuple[str, int] | None = None
        self.newcomer: str | None = None
        self.seen: tuple[object, int] | None = None
        self.sequence = 0
        self.deadline = 0.0
        self.refusals = 0

    def dump_state(self, now: float) -> dict[str, Any]:
        """
        The handoff as JSON can carry it, for a primary that replaces itself.  The
        descriptor keeps its number.

        :param now: the time, of the clock that the deadline is of: the successor's is another.
        """
        state = {name: getattr(self, name) for name in self.__slots__ if name != "client"}
        state["deadline"] = self.deadline and max(_ALMOST_DUE_SECONDS, self.deadline - now)
        state["key"] = self.key.hex()
        state["unread"] = self.unread.hex()
        state["learned"] = self.learned.hex()
        return state

    @classmethod
    def from_state(cls, state: dict[str, Any], now: float) -> Handoff:
        """
        The opposite of :meth:`dump_state`.

        :param now: the time, of the clock that the deadline shall be of.
        """
        handoff = cls(state["descriptor"], state["host"], state["port"], b"")
        for name in cls.__slots__:
            if name in state:
                setattr(handoff, name, state[name])
        handoff.key = bytes.fromhex(state["key"])
        handoff.unread = bytes.fromhex(state["unread"])
        handoff.learned = bytes.fromhex(state.get("learned", ""))
        handoff.deadline = handoff.deadline and handoff.deadline + now
        handoff.local = state["local"] and tuple(state["local"])
        return handoff

    def meet(self, mark: bytes) -> None:
        """
        Know the client of the last request by this from now on: it was given a token.
        """
        self.client = mark

    def at_this_request(self) -> Handoff:
        """
        What it says of the client of the last request, for as long as that takes: others may come
        on the same connection meanwhile.  It owns no descriptor.
        """
        copied = Handoff(-1, self.host, self.port, self.key, slot=self.slot, flags=self.flags)
        copied.client, copied.local = self.client, self.local
        return copied

    @property
    def identity(self) -> bytes:
        """
        The identity of the client whose request came last; see
        :mod:`stickyd.affinity.client_identity`.
        """
        return identity_of(self.slot, self.key)

    def __repr__(self) -> str:
        return (
            f"<Handoff {self.host}:{self.port} descriptor={self.descriptor} "
            f"sequence={self.sequence}>"
        )


def say_secure(handoff: Handoff, local: tuple[str, int] | None) -> None:
    """
    Note that a connection goes on as the plain text of its TLS.

    :param local: host and port that the client connected to, if it has any.
    """
    handoff.flags |= Flag.SECURE
    handoff.local = local


def encode_handoff(handoff: Handoff) -> bytes:
    """
    The frame of a handoff; its descriptor goes beside it, in the same ``sendmsg``.

    :raises FrameError: if ``unread`` is longer than :data:`MAX_UNREAD_BYTES`.
    """
    if len(handoff.unread) > MAX_UNREAD_BYTES:
        raise FrameError(
            f"{len(handoff.unread)} unread bytes do not fit into a handoff "
            f"(at most {MAX_UNREAD_BYTES})"
        )
    text = f"{handoff.host}\0{handoff.port}"
    if handoff.local is not None:
        text += f"\0{handoff.local[0]}\0{handoff.local[1]}"
    if handoff.purpose == _KEPT:
        text += f"\0{handoff.generation}"
    address = text.encode()
    head = _HEADER.pack(
        VERSION,
        _HANDOFF,
        handoff.purpose,
        handoff.flags,
        handoff.slot,
        len(address),
        len(handoff.key),
        handoff.sequence,
        0,
    )
    return head + address + handoff.key + handoff.unread


def encode_ack(sequence: int, window: int) -> bytes:
    """
    The frame that takes everything up to ``sequence`` and allows ``window`` under way.
    """
    return _HEADER.pack(VERSION, _ACK, 0, 0, 0, 0, 0, sequence, window)


def encode_nack(sequence: int) -> bytes:
    """
    The frame that asks for ``sequence`` again.
    """
    return _HEADER.pack(VERSION, Kind.NACK, 0, 0, 0, 0, 0, sequence, 0)


def decode(frame: bytes | bytearray | memoryview, size: int) -> tuple[int, int, int]:
    """
    Read what every frame says.

    :return: kind, sequence, window.
    :raises FrameError: as :func:`read_header` does.
    """
    header = read_header(frame, size)
    return header[1], header[7], header[8]


def read_header(frame: bytes | bytearray | memoryview, size: int) -> Header:
    """
    Read the fixed part of a frame.

    :param frame: a buffer that begins with the frame.
    :param size: how many bytes of it the frame has.
    :raises FrameError: if it is not a frame of this version.
    """
    if size < HEADER_BYTES:
        raise FrameError(f"a frame of {size} bytes, shorter than its header of {HEADER_BYTES}")
    header: Header = _HEADER.unpack_from(frame)
    version, kind, _, _, _, address, key, _, _ = header
    if version != VERSION:
        raise FrameError(f"a frame of version {version}, where {VERSION} is spoken")
    if kind == _HANDOFF:
        if address + key + HEADER_BYTES > size:
            raise FrameError(f"a handoff of {size} bytes, shorter than it says")
    elif kind not in (Kind.ACK, Kind.NACK):
        raise FrameError(f"a frame of unknown kind {kind}")
    elif size != HEADER_BYTES:
        raise FrameError(f"{size - HEADER_BYTES} bytes too many behind a {KIND_NAMES[kind]}")
    return header


def decode_handoff(
    frame: bytes | bytearray | memoryview,
    size: int,
    descriptor: int,
    header: Header | None = None,
) -> Handoff:
    """
    Read a HANDOFF frame that :func:`read_header` has accepted.

    :param descriptor: the descriptor that came with it, which the handoff now holds.
    :param header: what that gave, if it is at hand.
    :raises FrameError: if the address is malformed, or the handoff is larger than one may
        be; the descriptor is then still the caller's.
    """
    if header is None:
        header = read_header(frame, size)
    _, _, purpose, flags, slot, address_bytes, key_bytes, sequence, _ = header
    unread_at = address_bytes + key_bytes
    unread_bytes = size - HEADER_BYTES - unread_at
    if unread_bytes > MAX_UNREAD_BYTES:
        raise FrameError(
            f"a handoff with {unread_bytes} unread bytes, more than {MAX_UNREAD_BYTES}"
        )
    # One copy: to cut a bytearray makes another one.
    body = bytes(frame[HEADER_BYTES:size])
    address = body[:address_bytes]
    key = body[address_bytes:unread_at]
    try:
        parts = address.decode().split("\0")
        handoff = Handoff(
            descriptor, parts[0], int(parts[1]), key, body[unread_at:], slot, purpose, flags
        )
        if len(parts) > 2 or purpose == _KEPT:
            more = parts[2:]
            if purpose == _KEPT:
                handoff.generation = int(more.pop())
            if more:
                handoff.local = more[0], int(more[1])
    except (ValueError, IndexError) as cause:
        raise FrameError(f"a handoff with the malformed address {address!r}") from cause
    handoff.sequence = sequence
    return handoff
