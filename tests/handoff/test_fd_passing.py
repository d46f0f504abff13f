"""
Messages with descriptors, as the kernel carries them.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator

import pytest

from stickyd.handoff.fd_passing import channel_pair, receive_rights, send_rights
from tests.channels import no_descriptor_free


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """
    The two ends of a channel.
    """
    ours, theirs = channel_pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_pair_is_non_blocking_and_keeps_message_boundaries(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """
    Two messages arrive as two, and a third is not waited for.
    """
    ours, theirs = ends
    ours.send(b"one")
    ours.send(b"two")
    buffer = bytearray(100)
    assert [receive_rights(theirs, buffer)[0], bytes(buffer[:3])] == [3, b"one"]
    assert [receive_rights(theirs, buffer)[0], bytes(buffer[:3])] == [3, b"two"]
    with pytest.raises(BlockingIOError):
        receive_rights(theirs, buffer)
    with pytest.raises(BlockingIOError):
        receive_rights(ours, buffer)


def test_pair_is_not_inherited(ends: tuple[socket.socket, socket.socket]) -> None:
    """
    Neither end leaks into a child that is not meant to have it.
    """
    assert [end.get_inheritable() for end in ends] == [False, False]


def test_descriptor_arrives_close_on_exec(ends: tuple[socket.socket, socket.socket]) -> None:
    """
    The received descriptor is the same open file, closes on exec from the start, and the
    sender keeps its own.
    """
    reading, writing = os.pipe()
    # The sender's flag does not travel: inheritable there, close-on-exec here.
    os.set_inheritable(reading, True)
    send_rights(ends[0], b"message", reading)
    buffer = bytearray(100)
    size, flags, (received,) = receive_rights(ends[1], buffer)
    assert (bytes(buffer[:size]), flags & socket.MSG_CTRUNC) == (b"message", 0)
    assert received != reading
    assert fcntl.fcntl(received, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.write(writing, b"through")
    assert os.read(received, 100) == b"through"
    assert os.fstat(reading).st_ino == os.fstat(received).st_ino
    for descriptor in (reading, writing, received):
        os.close(descriptor)


def test_message_without_descriptor_brings_none(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """
    An acknowledgement is a message with nothing beside it.
    """
    ends[0].send(b"ack")
    size, flags, descriptors = receive_rights(ends[1], bytearray(100))
    assert (size, flags & socket.MSG_CTRUNC, descriptors) == (3, 0, [])


def test_dropped_descriptor_is_reported(ends: tuple[socket.socket, socket.socket]) -> None:
    """
    Without a descriptor free the message arrives alone, and MSG_CTRUNC says what is
    missing; the next one is whole again.
    """
    send_rights(ends[0], b"dropped", 0)
    send_rights(ends[0], b"whole", 0)
    buffer = bytearray(100)
    with no_descriptor_free():
        size, flags, descriptors = receive_rights(ends[1], buffer)
    assert (bytes(buffer[:size]), descriptors) == (b"dropped", [])
    assert flags & socket.MSG_CTRUNC
    size, flags, descriptors = receive_rights(ends[1], buffer)
    assert (bytes(buffer[:size]), flags & socket.MSG_CTRUNC, len(descriptors)) == (b"whole", 0, 1)
    os.close(descriptors[0])


def test_second_descriptor_is_seen(ends: tuple[socket.socket, socket.socket]) -> None:
    """
    A message with two descriptors gives both, so that it can be refused.
    """
    socket.send_fds(ends[0], [b"two"], [0, 0])
    _, flags, descriptors = receive_rights(ends[1], bytearray(100))
    assert len(set(descriptors)) == 2
    assert not flags & socket.MSG_CTRUNC
    for descriptor in descriptors:
        os.close(descriptor)


def test_third_descriptor_does_not_stay_open(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """
    What there is no room for is dropped by the kernel, which says so.
    """
    before = len(os.listdir("/dev/fd"))
    socket.send_fds(ends[0], [b"three"], [0, 0, 0])
    _, flags, descriptors = receive_rights(ends[1], bytearray(100))
    assert flags & socket.MSG_CTRUNC
    assert len(os.listdir("/dev/fd")) == before + len(descriptors)
    for descriptor in descriptors:
        os.close(descriptor)


def test_message_longer_than_the_buffer_is_reported(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """
    MSG_TRUNC says that the rest of a message is lost.
    """
    ends[0].send(b"too long")
    size, flags, _ = receive_rights(ends[1], bytearray(3))
    assert size == 3
    assert flags & socket.MSG_TRUNC


def test_end_is_an_empty_message(ends: tuple[socket.socket, socket.socket]) -> None:
    """
    When the other end has closed, the length is 0 and stays 0.
    """
    ends[0].close()
    assert [receive_rights(ends[1], bytearray(9))[0] for _ in range(2)] == [0, 0]


def test_death_with_unread_messages_is_told_once_and_loses_nothing(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """
    After the one ConnectionResetError, what the other end had sent can still be read.
    """
    ends[0].send(b"last words")
    ends[1].send(b"never read")
    ends[0].close()
    buffer = bytearray(100)
    with pytest.raises(ConnectionResetError):
        receive_rights(ends[1], buffer)
    assert receive_rights(ends[1], buffer)[0] == len(b"last words")
    assert receive_rights(ends[1], buffer)[0] == 0


def test_full_socket_sends_nothing_of_a_message() -> None:
    """
    A message that does not fit is not sent, nor is its descriptor: all that arrive are
    whole.
    """
    ours, theirs = channel_pair()
    sent = 0
    for _ in range(10_000):
        try:
            send_rights(ours, b"x" * 500, 0)
        except BlockingIOError:
            break
        sent += 1
    ours.close()
    sizes = []
    while (got := receive_rights(theirs, bytearray(1000)))[0]:
        sizes.append(got[0])
        (descriptor,) = got[2]
        os.close(descriptor)
    assert sizes == [500] * sent
    assert 0 < sent < 10_000
    theirs.close()
