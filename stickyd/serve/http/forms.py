"""
Forms: from the body of a request to the fields that ``request.args`` has.

Everything here takes time in proportion to the body, whatever is in it, and the body has
a bound: it is read in the worker's loop, at the moment when an application asks.  Twisted
has the :mod:`email` package read multipart bodies, which takes them for text, line by
line, several times over: 16 MB of line ends take it six seconds, and a form of 100 MB
1.2 GB of memory.

Only what RFC 7578 lets a client send is a form.  Its parts are cut out by the delimiter
alone; nothing looks into them.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote_to_bytes

from stickyd.serve.http.head import RequestError

if TYPE_CHECKING:
    from stickyd.serve.http.limits import HTTPLimits

    Fields = dict[bytes, list[bytes]]

#: The bound of a part's header block; browsers send a tenth of it.
PART_HEAD_BYTES = 8192

#: RFC 2046, 5.1.1, allows 70.
_BOUNDARY_BYTES = 250

#: What a form without files may have of ``form_bytes``: decoding is slower than cutting.
URLENCODED_BYTES = 8 * 1024 * 1024

#: Parameters of a header field; three are known.
_PARAMETERS = 16

#: The heads of all parts together may have so much for each part that is allowed.
_HEAD_BYTES = 256

#: With so many escapes a value is decoded in another way, which is faster then; with so many
#: percent signs that are no escapes it is refused, as that is slow too.
_MANY_ESCAPES = 8
_STRAYS = 1000

URLENCODED = b"application/x-www-form-urlencoded"
MULTIPART = b"multipart/form-data"

# What may stand behind a delimiter: the end of all, or the end of its line.
_delimiter_end = re.compile(rb"(--)|[ \t]*\r\n").match
# One parameter, quoted or not; each match begins where the one before has ended.
_parameter = re.compile(
    rb"""[ \t]*;[ \t]*([^\s=;"]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))""", re.DOTALL
).match
_unfold = re.compile(rb"\r\n[ \t]+").sub
_unquote = re.compile(rb'\\(["\\])').sub
_stray_percent = re.compile(rb"%(?![0-9A-Fa-f]{2})").subn


def is_form(content_type: bytes) -> bool:
    """
    Tell whether a body of this type is a form.
    """
    return _kind_of(content_type) in (URLENCODED, MULTIPART)


def read_form(content: BinaryIO, content_type: bytes, limits: HTTPLimits) -> Fields:
    """
    Read a form.

    :param content: the body; left where it stood.
    :param content_type: of the body, a form's; see :func:`is_form`.
    :return: the values of each field, in the order of the form.  Names are as the client
        sent them, files are their content.
    :raises RequestError: 413 if it is larger than ``form_bytes`` or has more than
        ``form_fields``, 400 if it is malformed.
    """
    most = limits.form_bytes
    urlencoded = _kind_of(content_type) == URLENCODED
    if urlencoded:
        most = URLENCODED_BYTES if most is None else min(most, URLENCODED_BYTES)
    before = content.tell()
    try:
        length = content.seek(0, 2)
        if most is not None and length > most:
            raise RequestError(
                413,
                f"a form of {length} bytes: request.args is made of {most} at most; raise"
                " --form-bytes, or have the resource read request.content",
            )
        content.seek(0)
        body = content.read()
    finally:
        content.seek(before)
    if urlencoded:
        return read_urlencoded(body, limits.form_fields)
    return read_multipart(body, _boundary_of(content_type), limits.form_fields)


def read_urlencoded(body: bytes, most: int) -> Fields:
    """
    Read ``application/x-www-form-urlencoded``, as twisted.web does: also ``;`` divides, and
    what has no ``=`` is no field.

    :param most: how many fields there may be.
    :raises RequestError: 413 if there are more.
    """
    count = body.count(b"&") + body.count(b";") + 1
    if count > most:
        raise _too_many(count, most)
    fields: Fields = {}
    for item in body.replace(b";", b"&").split(b"&"):
        name, equals, value = item.partition(b"=")
        if equals:
            fields.setdefault(decode_field(name), []).append(decode_field(value))
    return fields


def decode_field(text: bytes) -> bytes:
    """
    Decode ``+`` and ``%XX``; what only looks like an escape stays.

    :raises RequestError: 400 if there is very much of that.
    """
    text = text.replace(b"+", b" ")
    if text.count(b"%") < _MANY_ESCAPES:
        return unquote_to_bytes(text)
    # An object for each escape is too much for a megabyte of them.  Quoted-printable is
    # the same but for its sign and its breaking of lines, and its decoder is C.
    quoted = text.replace(b"=", b"%3D").replace(b"%", b"=")
    if b"=\r" not in quoted and b"=\n" not in quoted:
        decoded = binascii.a2b_qp(quoted)
        if len(quoted) - len(decoded) == 2 * quoted.count(b"="):
            return decoded
    text, strays = _stray_percent(b"%25", text, _STRAYS)
    if strays == _STRAYS:
        raise RequestError(400, "form: percent signs that begin no escape")
    return binascii.a2b_qp(text.replace(b"=", b"%3D").replace(b"%", b"="))


def read_multipart(body: bytes, boundary: bytes, most: int) -> Fields:
    """
    Read ``multipart/form-data`` (RFC 7578, RFC 2046 section 5.1).

    :param most: how many parts there may be.
    :raises RequestError: 413 if there are more, 400 if it is malformed.
    """
    delimiter = b"\r\n--" + boundary
    fields: Fields = {}
    # The first delimiter may be the first line, which has none before it.
    first = body.startswith(delimiter[2:])
    position = len(delimiter) - 2 if first else _behind(delimiter, body, 0)
    start = -1  # of the part's content, if the part has a name
    name: bytes | None = None
    encoding = b""
    head_bytes = 0
    for _ in range(most + 1):
        end = _delimiter_end(body, position)
        if end is None:
            # A line that only begins as the delimiter does.
            position = _behind(delimiter, body, position)
            continue
        if name is not None:
            content = body[start : max(start, position - len(delimiter))]
            fields.setdefault(name, []).append(_decoded(content, encoding))
        if end[1] is not None:
            return fields
        # The empty line that ends the head may be the one that the delimiter ended.
        head_start = end.end() - 2
        head_end = body.find(b"\r\n\r\n", head_start, head_start + PART_HEAD_BYTES)
        if head_end < 0:
            raise RequestError(400, "multipart form: a part without end of its head")
        head_bytes += head_end - head_start
        if head_bytes > most * _HEAD_BYTES + PART_HEAD_BYTES:
            raise RequestError(400, "multipart form: the heads of its parts are too large")
        name, encoding = _read_head(body[head_start + 2 : head_end])
        start = head_end + 4
        # The content may be empty, and its line end the head's.
        position = _behind(delimiter, body, head_end + 2)
    raise _too_many(body.count(delimiter), most)


def _behind(delimiter: bytes, body: bytes, start: int) -> int:
    found = body.find(delimiter, start)
    if found < 0:
        raise RequestError(400, "multipart form: its last delimiter is missing")
    return found + len(delimiter)


def _read_head(head: bytes) -> tuple[bytes | None, bytes]:
    """
    Take a part's name, if it has one, and its transfer encoding from its fields.
    """
    name = None
    encoding = b""
    for line in _unfold(b" ", head).split(b"\r\n"):
        field, _, value = line.partition(b":")
        field = field.strip().lower()
        if field == b"content-disposition":
            name = _parameters(value).get(b"name")
        elif field == b"content-transfer-encoding":
            encoding = value.strip().lower()
    return name or None, encoding


def _parameters(value: bytes) -> dict[bytes, bytes]:
    """
    Read what stands behind the first word of a field.
    """
    found: dict[bytes, bytes] = {}
    position = max(0, value.find(b";"))
    for _ in range(_PARAMETERS):
        match = _parameter(value, position)
        if match is None:
            break
        key, quoted, plain = match.groups()
        text = plain if quoted is None else _unquote(rb"\1", quoted)
        found.setdefault(key.lower(), text)
        position = match.end()
    return found


def _decoded(content: bytes, encoding: bytes) -> bytes:
    """
    Undo a transfer encoding, which RFC 7578 deprecates but twisted.web decodes.
    """
    try:
        if encoding == b"base64":
            return binascii.a2b_base64(content)
        if encoding == b"quoted-printable":
            return binascii.a2b_qp(content)
    except binascii.Error:
        raise RequestError(400, "multipart form: a part that is not base64") from None
    return content


def _kind_of(content_type: bytes) -> bytes:
    return content_type.partition(b";")[0].strip().lower()


def _boundary_of(content_type: bytes) -> bytes:
    boundary = _parameters(content_type).get(b"boundary", b"")
    if not 0 < len(boundary) <= _BOUNDARY_BYTES:
        raise RequestError(400, "multipart form: no boundary, or one that is too long")
    return boundary


def _too_many(count: int, most: int) -> RequestError:
    return RequestError(
        413,
        f"a form of some {count} fields: request.args has {most} at most; have the resource"
        " read request.content",
    )
