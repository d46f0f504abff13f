"""
The PROXY protocol, versions 1 and 2: what a proxy says of the connection it forwards.

After HAProxy's ``doc/proxy-protocol.txt``; the section numbers are that file's.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import dataclass
from typing import TypeAlias

from stickyd.affinity.address import unmapped
from stickyd.affinity.peek.need import Need, PeekError

Address: TypeAlias = "tuple[str, int]"

V1_LONGEST_BYTES = 107
"""
How long a version 1 header can be, in bytes, its CRLF included (section 2.1).
"""

V2_LONGEST_BYTES = 4096
"""
How long a version 2 header may be here, in bytes.  The format allows 65,551; what
proxies send (addresses, TLS facts, a cloud's endpoint id) stays in the hundreds.
"""

_V1 = b"PROXY "
_V1_SHORTEST_BYTES = len(b"PROXY UNKNOWN\r\n")
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED_BYTES = 16
_PORT = re.compile(r"0|[1-9][0-9]{0,4}", re.ASCII)
_ADDRESSES = {1: struct.Struct("!4s4sHH"), 2: struct.Struct("!16s16sHH")}
_UNIX, _UNIX_BYTES = 3, 216
_CRC32C = 0x03
_SSL, _SSL_SHORTEST_BYTES, _CLIENT_SSL = 0x20, 5, 0x01  # section 2.2.6


def _crc32c_of_byte(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


# By table, since bit by bit it costs 60 us for 100 bytes, once a connection.
_CRC32C_OF_BYTE = tuple(map(_crc32c_of_byte, range(256)))


class ProxyHeaderError(PeekError):
    """
    A trusted peer did not begin with a well-formed PROXY header.
    """


@dataclass(frozen=True)
class Header:
    """
    A PROXY header.

    :ivar length: how many bytes it takes; exactly these are consumed from the socket.
    :ivar source: the client's host and port, an IPv4-mapped host as IPv4.  None if
        the header names none (``UNKNOWN``, ``LOCAL``, an unspecified family, or UNIX
        socket paths): the connection then counts as the peer's own.
    :ivar destination: the host and port that the client connected to, or None.
    :ivar secure: whether the client speaks TLS with the proxy, which a version 2 header may
        tell (``send-proxy-v2-ssl`` of HAProxy).
    """

    length: int
    source: Address | None = None
    destination: Address | None = None
    secure: bool = False


def announced(seen: bytes) -> bool | None:
    """
    Tell whether a connection begins with a PROXY header, well-formed or not.

    :return: None while that is open.
    """
    for signature in (_V1, _V2):
        if seen.startswith(signature):
            return True
        if signature.startswith(seen):
            return None
    return False


def parse_header(seen: bytes) -> Need | Header:
    """
    Parse the PROXY header that a connection must begin with.

    :param seen: all bytes seen so far.
    :raises ProxyHeaderError: if it is not there, is malformed, or is too long.
    """
    if announced(seen) is False:
        raise ProxyHeaderError("the connection does not begin with a PROXY header")
    if seen.startswith(b"P"):
        return _parse_v1(seen)
    if len(seen) < _V2_FIXED_BYTES:
        # An empty beginning lands here, too: no header is shorter than version 1's.
        return Need((_V2_FIXED_BYTES if seen else _V1_SHORTEST_BYTES) - len(seen))
    return _parse_v2(seen)


def _parse_v1(seen: bytes) -> Need | Header:
    """
    Parse the line of section 2.1.
    """
    end = seen.find(b"\r\n", 0, V1_LONGEST_BYTES)
    if end < 0:
        more = max(_V1_SHORTEST_BYTES - len(seen), 1 if seen.endswith(b"\r") else 2)
        if len(seen) + more > V1_LONGEST_BYTES:
            raise ProxyHeaderError(f"a PROXY line is longer than {V1_LONGEST_BYTES} bytes")
        return Need(more)
    fields = seen[:end].decode("latin-1").split(" ")
    if fields[1] == "UNKNOWN":  # the rest of the line is to be ignored
        return Header(end + 2)
    version = {"TCP4": 4, "TCP6": 6}.get(fields[1])
    if version is None or len(fields) != 6:
        raise ProxyHeaderError(f"not a PROXY line: {seen[:end]!r}")
    source, destination = (_parse_host(text, version) for text in fields[2:4])
    source_port, destination_port = map(_parse_port, fields[4:])
    return Header(end + 2, (source, source_port), (destination, destination_port))


def _parse_host(text: str, version: int) -> str:
    try:
        address = ipaddress.ip_address(text)
        if address.version == version and "%" not in text:
            return str(unmapped(address))
    except ValueError:
        pass
    raise ProxyHeaderError(f"{text!r} is not an IPv{version} address")


def _parse_port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ProxyHeaderError(f"{text!r} is not a TCP port")
    return int(text)


def _host_of(packed: bytes) -> str:
    return str(unmapped(ipaddress.ip_address(packed)))


def _parse_v2(seen: bytes) -> Need | Header:
    """
    Parse the block of section 2.2.
    """
    version, command = divmod(seen[12], 16)
    family, transport = divmod(seen[13], 16)
    end = _V2_FIXED_BYTES + int.from_bytes(seen[14:_V2_FIXED_BYTES], "big")
    if version != 2 or command > 1:
        raise ProxyHeaderError(f"version {version}, command {command} of PROXY is not known")
    if family > _UNIX or transport > 2:
        raise ProxyHeaderError(f"family {family}, transport {transport} of PROXY is not known")
    if end > V2_LONGEST_BYTES:
        raise ProxyHeaderError(f"a PROXY header of {end} bytes is longer than {V2_LONGEST_BYTES}")
    if len(seen) < end:
        return Need(end - len(seen))
    if command == 0 or family == 0 or transport == 0:
        return Header(end)  # the block is to be skipped as a whole, whatever stands in it
    shape = _ADDRESSES.get(family)
    size = _UNIX_BYTES if shape is None else shape.size
    if end < _V2_FIXED_BYTES + size:
        raise ProxyHeaderError("a PROXY header is shorter than its addresses")
    secure = _read_tlvs(seen[:end], _V2_FIXED_BYTES + size)
    if shape is None:
        return Header(end, secure=secure)
    source, destination, source_port, destination_port = shape.unpack_from(seen, _V2_FIXED_BYTES)
    return Header(
        end,
        (_host_of(source), source_port),
        (_host_of(destination), destination_port),
        secure,
    )


def _read_tlvs(header: bytes, position: int) -> bool:
    """
    Check that the TLVs fill the header exactly, and its checksum if it has one.

    All others but ``PP2_TYPE_SSL`` are skipped: nothing that they say changes who the client is.

    :return: whether the client speaks TLS with the proxy.
    """
    secure = False
    while position < len(header):
        value = position + 3
        end = value + int.from_bytes(header[position + 1 : value], "big")
        if end > len(header):
            raise ProxyHeaderError("a TLV runs over the end of its PROXY header")
        if header[position] == _CRC32C:
            blank = header[:value] + bytes(end - value) + header[end:]
            if header[value:end] != _crc32c(blank).to_bytes(4, "big"):
                raise ProxyHeaderError("the checksum of a PROXY header is wrong")
        elif header[position] == _SSL:
            if end - value < _SSL_SHORTEST_BYTES:
                raise ProxyHeaderError("what a PROXY header says of TLS is too short")
            secure = bool(header[value] & _CLIENT_SSL)
        position = end
    return secure


def _crc32c(data: bytes) -> int:
    """
    Compute CRC32c (RFC 3720, appendix B.4).
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C_OF_BYTE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
