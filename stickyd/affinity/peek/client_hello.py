"""
The ``sni`` key: the server name that a TLS client asks for, from its ClientHello.

After RFC 8446 (sections 4.1.2 and 5.1) and RFC 6066 (section 3).  Nothing is decrypted;
with Encrypted ClientHello the name is the public one of the outer hello.
"""

from __future__ import annotations

from dataclasses import dataclass

from stickyd.affinity.peek.need import Need, PeekError

LONGEST_HELLO_BYTES = 16384
"""
How long a ClientHello can be, in bytes: what fits into one record.  Post-quantum key
shares make about 1,800.
"""

MOST_RECORDS = 32
"""
Over how many records a ClientHello can be spread.
"""

_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0
_LONGEST_NAME = 255


class HelloError(PeekError):
    """
    It began like TLS, and is no well-formed ClientHello.
    """


class NotTLSError(PeekError):
    """
    The connection does not speak TLS.
    """


@dataclass(frozen=True)
class Hello:
    """
    A ClientHello.

    :ivar server_name: in lower case, without a dot at the end; or None if it has none.
    """

    server_name: bytes | None


@dataclass(frozen=True)
class SniKey:
    """
    ``sni``: the server name.
    """

    def key_of(self, hello: Hello) -> bytes | None:
        """
        Give the server name, or None.
        """
        return hello.server_name

    def __str__(self) -> str:
        return "sni"


class _Reader:
    """
    Takes fields off the front of a message, and never more than there is.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def take(self, size: int) -> bytes:
        """
        Take so many bytes.
        """
        end = self._position + size
        if end > len(self._data):
            raise HelloError("a field runs over the end of its ClientHello")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def number(self, size: int) -> int:
        """
        Take a number of so many bytes.
        """
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """
        Take a vector whose length stands before it, in so many bytes.
        """
        return self.take(self.number(size))


def parse_client_hello(seen: bytes) -> Need | Hello:
    """
    Parse the ClientHello that a TLS connection must begin with.

    :param seen: all bytes seen so far; what follows the hello is not looked at.
    :raises NotTLSError: if the first bytes are not those of a TLS handshake.
    :raises HelloError: if the hello is malformed, or too long.
    """
    message = b""
    position = 0
    for _ in range(MOST_RECORDS):
        record = seen[position : position + 5]
        if record[:1] not in (b"", b"\x16") or record[1:2] not in (b"", b"\x03"):
            raise (HelloError if position else NotTLSError)("not a TLS handshake record")
        if len(record) < 5:
            return Need(5 - len(record))
        length = int.from_bytes(record[3:5], "big")
        # Empty records of a handshake are forbidden (RFC 8446, section 5.1).
        if not 0 < length <= LONGEST_HELLO_BYTES:
            raise HelloError(f"a TLS record of {length} bytes")
        position += 5 + length
        message += seen[position - length : position]
        if message[:1] not in (b"", bytes([_CLIENT_HELLO])):
            raise HelloError("the TLS handshake does not begin with a ClientHello")
        size = int.from_bytes(message[1:4], "big")
        if len(message) >= 4 and size > LONGEST_HELLO_BYTES:
            raise HelloError(f"a ClientHello of {size} bytes is longer than {LONGEST_HELLO_BYTES}")
        missing = (4 + size if len(message) >= 4 else 4) - len(message)
        if missing <= 0:
            return Hello(_server_name_of(message[4 : 4 + size]))
        if len(seen) < position:
            return Need(min(missing, position - len(seen)))
    raise HelloError(f"a ClientHello over more than {MOST_RECORDS} records")


def _server_name_of(body: bytes) -> bytes | None:
    """
    Find the server name in the body of a ClientHello.
    """
    hello = _Reader(body)
    hello.take(2 + 32)  # legacy_version, random
    hello.vector(1)  # legacy_session_id
    hello.vector(2)  # cipher_suites
    hello.vector(1)  # legacy_compression_methods
    if not hello:
        return None  # before TLS 1.3 there may be no extensions
    extensions = _Reader(hello.vector(2))
    while extensions:
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind == _SERVER_NAME:
            return _host_name_of(content)
    return None


def _host_name_of(content: bytes) -> bytes | None:
    """
    Take the host name from the extension of RFC 6066, section 3.
    """
    names = _Reader(_Reader(content).vector(2))
    while names:
        kind = names.number(1)
        name = names.vector(2)
        if kind == _HOST_NAME:
            # Host names are ASCII; an international one comes in its xn-- form.
            if len(name) > _LONGEST_NAME or not all(0x21 <= byte <= 0x7E for byte in name):
                raise HelloError("the server name is not a host name")
            return name.rstrip(b".").lower() or None
    return None
