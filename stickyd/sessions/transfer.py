"""
How sessions are carried from worker to worker: in chunks of text.

A chunk is lines.  The first is ``stickyd-sessions 1``.  Then come two lines for each
session: a JSON array of the record's fields, and the data as
:func:`stickyd.sessions.plain.encode` makes it, which has no line ends.  The array ends with
*part* and *parts*.  A session whose data is too large for a chunk comes alone in
several, with the same fields in each and a part of the data: the parts in
order give the data.  Every other session is part 0 of 1.  The array of an alias goes on with
the id that it finds.  An id of which only the hash is known is written as that.  Behind that, or
behind an empty text, stands what the client is known by, in base64, where one is known.

Another kind of chunk tells which sessions will follow, as they are still in use: its first
line is ``stickyd-sessions-follow 1``, then come an id and the affinity key, in base64, in each.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import TYPE_CHECKING

from stickyd.errors import TransferError
from stickyd.sessions.plain import decode
from stickyd.sessions.record import HIDDEN, HiddenId, SessionRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHUNK = 59_999
"""
The most bytes of a chunk: AMP's values end at 65,535, and leave room beside it.
"""

CHUNK_LEAST = 49_152
"""
The least that a chunk may be limited to: the longest array fits (its affinity key, and what its
client is known by, have up to 16,385 bytes each before base64) and leaves room for some data.
"""

_HEAD = b"stickyd-sessions 1\n"


_FOLLOW = b"stickyd-sessions-follow 1\n"


def notices(keys: Mapping[bytes, bytes]) -> Iterator[bytes]:
    """
    Write which sessions will follow.

    :param keys: the affinity key of each, by its id.
    :return: the chunks.
    """
    chunk = _FOLLOW
    for uid, key in keys.items():
        line = uid + b" " + b64encode(key) + b"\n"
        if len(chunk) + len(line) > CHUNK:
            yield chunk
            chunk = _FOLLOW
        chunk += line
    if chunk != _FOLLOW:
        yield chunk


def followers(chunk: bytes) -> dict[bytes, bytes] | None:
    """
    Read which sessions will follow.

    :return: as :func:`notices` has them; :obj:`None` if the chunk is of the other kind.
    :raise stickyd.errors.TransferError: it is not what that has written.
    """
    if not chunk.startswith(_FOLLOW):
        return None
    keys = {}
    try:
        for line in chunk.split(b"\n")[1:-1]:
            uid, key = line.split(b" ")
            keys[uid] = b64decode(key, validate=True)
    except ValueError as error:
        raise TransferError(f"a notice of sessions has a line that is none: {error}") from error
    return keys


def line_pair(record: SessionRecord, part: int = 0, parts: int = 1) -> bytes:
    """
    Write a record, whole or a part, whose data is then a part too.
    """
    fields = [
        record.uid.decode("ascii"),
        record.version,
        record.created,
        record.touched,
        record.idle,
        record.lifetime,
        b64encode(record.key).decode("ascii"),
        record.secure,
        part,
        parts,
    ]
    if record.alias or record.client:
        fields.append(record.alias.decode("ascii"))
    if record.client:
        fields.append(b64encode(record.client).decode("ascii"))
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n" + record.data + b"\n"


def join(pairs: list[bytes]) -> bytes:
    """
    Make a chunk.
    """
    return _HEAD + b"".join(pairs)


def fits(size: int, limit: int) -> bool:
    """
    Tell whether pairs of lines of so many bytes fit into one chunk.
    """
    return len(_HEAD) + size <= limit


def split(record: SessionRecord, limit: int) -> Iterator[bytes]:
    """
    Write a record that is too large for one chunk.

    :return: the chunks, each of at most ``limit`` bytes.
    """
    data = record.data
    # The array is longest with the highest numbers; so many parts there never are.
    frame = len(_HEAD) + len(line_pair(replace(record, data=b""), len(data), len(data)))
    room = limit - frame
    parts = -(-len(data) // room)
    for part in range(parts):
        piece = replace(record, data=data[part * room : (part + 1) * room])
        yield join([line_pair(piece, part, parts)])


def _id_of(text: str) -> bytes:
    uid = text.encode("ascii")
    return HiddenId(uid) if uid.startswith(HIDDEN) else uid


class ChunkReader:
    """
    Reads chunks, from any number of workers in turns.
    """

    def __init__(self) -> None:
        # The parts of sessions that have not come whole.
        self._parts: dict[bytes, tuple[int, list[bytes]]] = {}

    def read(self, chunk: bytes) -> list[SessionRecord]:
        """
        Read one chunk.

        :return: the sessions in it, and the one of which it has the last part.
        :raise stickyd.errors.TransferError: it is not a chunk, or a part is missing
            before it.
        """
        if not chunk.startswith(_HEAD) or not chunk.endswith(b"\n"):
            raise TransferError("not a chunk of sessions: it does not begin or end like one")
        lines = chunk.split(b"\n")[1:-1]
        if len(lines) % 2:
            raise TransferError("a chunk of sessions must have two lines for each session")
        records = []
        for fields, data in zip(lines[::2], lines[1::2], strict=True):
            record = self._read_pair(fields, data)
            if record is not None:
                records.append(record)
        return records

    def _read_pair(self, line: bytes, data: bytes) -> SessionRecord | None:
        try:
            fields = json.loads(line)
            uid, version, created, touched, idle, lifetime, key, secure, part, parts = fields[:10]
            record = SessionRecord(
                uid=_id_of(uid),
                version=int(version),
                created=float(created),
                touched=float(touched),
                idle=float(idle),
                lifetime=float(lifetime),
                data=data,
                key=b64decode(key, validate=True),
                secure=bool(secure),
                alias=_id_of(fields[10]) if fields[10:] else b"",
                client=b64decode(fields[11], validate=True) if fields[11:] else b"",
            )
            if parts > 1:
                whole = self._gather(record, part, parts)
                if whole is None:
                    return None
                record = replace(record, data=whole)
            decode(record.data)
        except (ValueError, TypeError, AttributeError) as error:
            raise TransferError(
                f"a chunk of sessions has a session that is none: {error}"
            ) from error
        return record

    def _gather(self, record: SessionRecord, part: int, parts: int) -> bytes | None:
        if part == 0:
            self._parts[record.uid] = (record.version, [])
        version, pieces = self._parts.get(record.uid, (record.version, []))
        if version != record.version or len(pieces) != part:
            raise ValueError(f"part {part} of {parts} comes without the parts before it")
        pieces.append(record.data)
        if part + 1 < parts:
            return None
        del self._parts[record.uid]
        return b"".join(pieces)
