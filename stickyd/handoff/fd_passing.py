"""
Sending one message with one descriptor, and receiving one without losing the pairing.

Not ``IUNIXTransport.sendFileDescriptor`` and not AMP's ``Descriptor``: both pair
descriptors with messages by counting, so one descriptor that the kernel drops at the
receiver's ``RLIMIT_NOFILE`` makes every later client be served as its predecessor.  Not
``socket.recv_fds``: it drops its flags on every CPython up to 3.13, and with them
``MSG_CMSG_CLOEXEC``.
"""

from __future__ import annotations

import socket
from struct import Struct

_INT = Struct("@i")
_RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)
# Room for two descriptors: a frame has one, and a second must be seen to be refused.
_ANCILLARY_BYTES = socket.CMSG_SPACE(2 * _INT.size)
_CLOEXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """
    Make the two ends of a handoff channel, both non-blocking.

    ``SOCK_SEQPACKET`` keeps message boundaries and reports the other end's death, which
    ``SOCK_DGRAM`` would not (unix(7)).  The caller closes both.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def send_rights(sock: socket.socket, message: bytes, descriptor: int) -> None:
    """
    Send one message and one descriptor, together or not at all.

    The caller keeps its copy of the descriptor.

    :raises BlockingIOError: if the socket is full; about 278 descriptors fit.
    :raises OSError: see sendmsg(2); the errnos in
        :data:`stickyd.net.descriptors.SHORTAGES` pass by themselves.
    """
    sock.sendmsg((message,), ((*_RIGHTS, _INT.pack(descriptor)),))


def receive_rights(sock: socket.socket, buffer: bytearray) -> tuple[int, int, list[int]]:
    """
    Receive one message into ``buffer``.

    :return: its length in bytes, 0 at the end; the flags of recvmsg(2), in which
        ``MSG_CTRUNC`` says that the kernel dropped a descriptor; and the descriptors
        that came with it, close-on-exec, which the caller closes.
    :raises BlockingIOError: if there is none.
    :raises ConnectionResetError: once, if the other end closed with messages of ours
        unread; what it had sent before can still be received.
    """
    size, ancillary, flags, _ = sock.recvmsg_into((buffer,), _ANCILLARY_BYTES, _CLOEXEC)
    if len(ancillary) == 1:
        [(level, kind, data)] = ancillary
        if (level, kind) == _RIGHTS and len(data) == _INT.size:
            return size, flags, [*_INT.unpack(data)]  # as it nearly always is
    return (
        size,
        flags,
        [
            descriptor
            for level, kind, data in ancillary
            if (level, kind) == _RIGHTS
            # A truncated control message can end in the middle of a descriptor.
            for (descriptor,) in _INT.iter_unpack(data[: len(data) // _INT.size * _INT.size])
        ],
    )
