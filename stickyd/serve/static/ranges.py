"""
Parts of files: the field ``Range`` (RFC 9110, section 14).
"""

from __future__ import annotations

import re

#: More ranges than this are no download but a nuisance; the whole file is sent instead.
MOST_RANGES = 16

#: Digits of a position; no file is that long.
_DIGITS = 18

_unit = re.compile(rb"[ \t]*bytes[ \t]*=", re.IGNORECASE).match
_range = re.compile(rb"[ \t]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t]*").fullmatch


def parse_ranges(value: bytes, size: int) -> list[tuple[int, int]] | None:
    """
    Find out which parts of a file a client wants.

    :param value: of the field.
    :param size: of the file, in bytes.
    :return: offset and size of each part that there is, in the order asked for; none if the
        file has nothing of what is asked for; :obj:`None` if the field is to be ignored,
        because it is malformed, in other units, or asks for more than there is.
    """
    unit = _unit(value)
    if unit is None:
        return None
    parts = []
    items = [item for item in value[unit.end() :].split(b",") if item.strip(b" \t")]
    if not 0 < len(items) <= MOST_RANGES:
        return None
    for item in items:
        match = _range(item)
        if match is None:
            return None
        first, last, suffix = match.groups()
        if suffix is not None:
            length = min(_number(suffix), size)
            start, end = size - length, size
        else:
            start = _number(first)
            if last and _number(last) < start:
                return None
            end = min(_number(last) + 1, size) if last else size
        if start < end:
            parts.append((start, end - start))
    if len(parts) > 1 and sum(length for _, length in parts) > size:
        return None
    return parts


def _number(digits: bytes) -> int:
    return int(digits) if len(digits) <= _DIGITS else 10**_DIGITS
