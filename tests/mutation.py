"""
Damaged input: what goes over a wire, changed in ways that parsers stumble over.

All of it is drawn from seeded generators, so that what once failed fails again.
"""

from __future__ import annotations

import ssl
import struct
from typing import TYPE_CHECKING

from stickyd.affinity.token import Signer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

SIGNER = Signer([b"a secret of some length"])
COOKIES = [SIGNER.mint(slot).encode() for slot in range(4)]
STAMPS = [SIGNER.stamp(identifier, 2) for identifier in (b"abc", b"a b\xff", b"0.1.2")]

#: Bytes that mean something to one of the parsers.
PIECES = [
    *(b"\r\n", b"\r", b"\n", b"\r\n\r\n", b" ", b"\t", b"\0", b"\xff", b"\x80", b":", b",", b";"),
    *(b"=", b'"', b"\\", b"%", b"%00", b"%zz", b"/", b"?", b"&", b"+", b"..", b"[", b"]", b"::1"),
    *(b"PROXY ", b"TCP4", b"TCP6", b"UNKNOWN", b"\r\n\r\n\0\r\nQUIT\n", b"\x16\x03\x01", b"\x01"),
    *(b"0", b"00", b"-1", b"4294967296", b"65536", b"256.1.1.1", b"::ffff:1.2.3.4", b"unknown"),
    *(b"GET / HTTP/1.1\r\n", b"HTTP/1.0", b"HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(b"Cookie: stickyd=", b"Host: h\r\n", b"Content-Length: 5\r\n", b"X-Forwarded-For: "),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Forwarded: for="),
    *(b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"for=", b"proto=https", b'"[::1]:80"'),
    *(b"\x00\x00", b"\x00\x01", b"\xff\xff", b"\x7f\xff", b"\x40\x00", b"\x0a\x0a\x00\x00", b"."),
]


def head(line: str, *fields: bytes) -> bytes:
    """
    Write a request's head.
    """
    return b"\r\n".join([line.encode(), b"Host: h", *fields, b"", b""])


HEADS = [
    head("GET / HTTP/1.1"),
    head("GET /room/caf%C3%A9/x?a=b&user=al%20ice&sid=7 HTTP/1.1", b"Accept: */*"),
    *(head("GET / HTTP/1.1", b'Cookie: a=b; stickyd="%b"; session=s' % each) for each in COOKIES),
    *(head("POST /mcp HTTP/1.1", b"Mcp-Session-Id: " + each) for each in STAMPS),
    head("GET / HTTP/1.0", b"X-User: alice", b"X-Session: t1", b"X-Empty:"),
    head("GET / HTTP/1.1", b"X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.2"),
    head("GET / HTTP/1.1", b'Forwarded: for="[2001:db8::7]:80";proto=https, for=10.0.0.2;by=_a'),
    head("POST / HTTP/1.1", b"Transfer-Encoding: chunked") + b"5;a=b\r\nhello\r\n0\r\nT: u\r\n\r\n",
    head("POST / HTTP/1.1", b"Content-Length: 5") + b"hello" + head("GET /second HTTP/1.1"),
    head("GET /chat HTTP/1.1", b"Upgrade: websocket", b"Connection: Upgrade"),
    head("CONNECT h:443 HTTP/1.1"),
    head("OPTIONS * HTTP/1.1"),
    head("GET http://user@h:80/room/1/?user=bob#x HTTP/1.1"),
    b"\r\n" + head("GET /behind HTTP/1.1", b"X-User:\t alice \t"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


def proxy_v2(block: bytes, command: int = 0x21, family: int = 0x11) -> bytes:
    """
    Write a PROXY header of version 2, with what a client may send behind it.
    """
    start = b"\r\n\r\n\0\r\nQUIT\n" + bytes([command, family])
    return start + struct.pack("!H", len(block)) + block + b"GET / HTTP/1.1\r\n"


_IPV4 = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 40000, 443)
_IPV6 = bytes(range(32)) + struct.pack("!HH", 40000, 443)
_TLVS = b"\x01\x00\x02h2" + b"\x04\x00\x03\0\0\0" + b"\xee\x00\x04abcd"
#: Computed apart from our code, see test_affinity_proxy.
_CHECKED = b"\x03\x00\x04" + bytes.fromhex("39426bbf")

PROXY_HEADERS = [
    b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\nGET",
    b"PROXY TCP6 2001:db8::7 ::1 1 65535\r\n\x16\x03",
    b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:127.0.0.1 0 80\r\n",
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
    proxy_v2(_IPV4),
    proxy_v2(_IPV6, family=0x21),
    proxy_v2(_IPV4 + _TLVS),
    proxy_v2(_IPV4 + _CHECKED),
    proxy_v2(bytes(216) + _TLVS, family=0x31),
    proxy_v2(b"", command=0x20, family=0),
    proxy_v2(_IPV4 + b"\x04\x01\x00" + bytes(256), family=0x12),
]

VALUES = [
    *COOKIES,
    *STAMPS,
    b"203.0.113.9, 10.0.0.2",
    b"2001:db8::7, [fd00::1]:80,10.0.0.3:4711",
    b"for=203.0.113.9;proto=http, for=10.0.0.2",
    b'for="[2001:db8::7]:4711";by="_a,\\"b";host=h;proto=https, For=10.0.0.2 , for=unknown',
    b'a=b; stickyd="%b"; c=d; stickyd=%b' % (COOKIES[0], COOKIES[1]),
    b"a=b;session=x; ;=;==;stickyd=",
    b"a=b&user=al%20ice&&=&user=+%FF&sid=7;sid=8",
]


def client_hello(
    server_name: str | None, change: Callable[[ssl.SSLContext], object] | None = None
) -> bytes:
    """
    Have OpenSSL make a ClientHello.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if change is not None:
        change(context)
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without a server")


def in_records(message: bytes, size: int) -> bytes:
    """
    Spread a handshake message over TLS records of a size.
    """
    pieces = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + struct.pack("!H", len(piece)) + piece for piece in pieces)


def greased(hello: bytes) -> bytes:
    """
    Put unknown extensions (RFC 8701) before and behind those of a ClientHello, and set right
    the lengths around them.
    """
    body = bytearray(hello[9:])
    position = 34
    position += 1 + body[position]
    position += 2 + int.from_bytes(body[position : position + 2], "big")
    position += 1 + body[position]
    extensions = b"\x0a\x0a\0\0" + bytes(body[position + 2 :]) + b"\xfa\xfa\0\x03abc"
    body[position:] = struct.pack("!H", len(extensions)) + extensions
    return in_records(b"\x01" + len(body).to_bytes(3, "big") + body, 16384)


def client_hellos() -> list[bytes]:
    """
    Collect ClientHellos of OpenSSL: with and without a name, with ALPN, of TLS 1.2 alone, with
    unknown extensions, over many records.
    """

    def old(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    plain = [
        client_hello("www.example.org"),
        client_hello(None),
        client_hello("a.example", lambda context: context.set_alpn_protocols(["h2", "http/1.1"])),
        client_hello("b" * 63 + ".example", old),
        client_hello(None, old),
    ]
    grease = [greased(each) for each in plain]
    scattered = [in_records(each[5:], size) for each in grease for size in (17, 40, 100)]
    return [*plain, *grease, *scattered]


class Mutator:
    """
    Gives damaged forms of some seeds, without end.
    """

    def __init__(self, random: Random, seeds: Sequence[bytes], longest: int = 36000) -> None:
        """
        :param longest: how many bytes what it gives may have.
        """
        self._random = random
        self._seeds = seeds
        self._longest = longest
        self._ways = (
            self._set_byte,
            self._set_byte,
            self._insert,
            self._insert,
            self._cut_out,
            self._cut_off,
            self._double,
            self._set_word,
            self._splice,
        )

    def next(self) -> bytes:
        """
        Give the next one: now and then unharmed, now and then nothing but noise.
        """
        random = self._random
        kind = random.randrange(256)
        if not kind:
            return random.randbytes(random.randrange(64))
        data = bytearray(random.choice(self._seeds))
        for _ in range(kind % 6):
            if not data:
                break
            random.choice(self._ways)(data)
        if kind == 1:
            self._repeat(data)
        return bytes(data[: self._longest])

    def _somewhere(self, data: bytearray) -> int:
        return self._random.randrange(len(data))

    def _set_byte(self, data: bytearray) -> None:
        data[self._somewhere(data)] = self._random.randrange(256)

    def _insert(self, data: bytearray) -> None:
        position = self._somewhere(data)
        data[position:position] = self._random.choice(PIECES)

    def _cut_out(self, data: bytearray) -> None:
        position = self._somewhere(data)
        del data[position : position + self._random.randrange(1, 20)]

    def _cut_off(self, data: bytearray) -> None:
        del data[self._somewhere(data) :]

    def _double(self, data: bytearray) -> None:
        position = self._somewhere(data)
        size = self._random.randrange(1, 40)
        data[position:position] = data[position : position + size]

    def _set_word(self, data: bytearray) -> None:
        position = self._somewhere(data)
        data[position : position + 2] = self._random.randbytes(2)

    def _splice(self, data: bytearray) -> None:
        other = self._random.choice(self._seeds)
        data[self._somewhere(data) :] = other[self._random.randrange(len(other)) :]

    def _repeat(self, data: bytearray) -> None:
        """
        Write a piece so often that it fills all the room that there is.
        """
        piece = self._random.choice(PIECES)
        position = self._random.randrange(len(data) + 1)
        data[position:position] = piece * (self._longest // len(piece))
