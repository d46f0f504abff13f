"""
Plain data, and its form outside the process: JSON, as ASCII without white space.

JSON has neither bytes nor tuples, so these are objects of one member whose name is a
tag: ``{"~b": "<base64>"}`` and ``{"~t": [...]}``.  The name of an object of one member that
begins with ``~`` by itself gets one more ``~``.  Members stay in their order, so
equal data in the same order is equal text.  ``NaN`` and ``Infinity`` are written as
Python's :mod:`json` writes and reads them.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any

from stickyd.errors import NotCarriable

DEPTH = 100
"""
How deep plain data may be nested.  A list that contains itself is caught by it, and no
recursion limit between here and the other worker is reached.
"""

INTEGER_BITS = 2_048
"""
The largest integer.  Python refuses to read long decimal numbers; this many bits
pass under the lowest limit that ``sys.set_int_max_str_digits`` can set (640 digits).
"""

_SCALARS = frozenset({type(None), bool, float, str})

_encode_text = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

# The way from the root to a value, innermost step first.
_Trail = tuple[Any, ...]


def encode(data: dict[str, Any]) -> bytes:
    """
    Write plain data.

    :raise NotCarriable: names the first part that is not plain data.
    """
    return _encode_text(_pack(data, (), DEPTH)).encode("ascii")


def scalar_size(value: Any) -> int | None:
    """
    Tell how many bytes :func:`encode` needs at most for a value that is no list, tuple or
    dict, without writing it.

    :return: :obj:`None` for all else, be it plain data or not.
    """
    kind = type(value)
    if kind is str:
        return 12 * len(value) + 2  # a character can be two \\uXXXX
    if kind is int:
        bits: int = value.bit_length()
        return bits // 3 + 3 if bits <= INTEGER_BITS else None
    return 25 if kind in _SCALARS else None


def decode(text: bytes) -> dict[str, Any]:
    """
    Read what :func:`encode` has written.  Everything in it is new.

    :raise ValueError: the text is something else.
    """
    # A text without a tag, which most are, needs no hook: three times as fast.
    # Of bytes, json would look first what encoding they are in.
    written = text.decode("ascii")
    data = json.loads(written, object_hook=_unpack) if b'"~' in text else json.loads(written)
    if type(data) is not dict:
        raise ValueError(f"a session's data is an object, not {type(data).__name__}")
    return data


def _pack(value: Any, trail: _Trail, depth: int) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is int:
        if value.bit_length() > INTEGER_BITS:
            raise NotCarriable(f"{_path(trail)}: an int of more than {INTEGER_BITS} bits")
        return value
    if kind is bytes:
        return {"~b": b64encode(value).decode("ascii")}
    if not depth:
        raise NotCarriable(f"{_path(trail)}: nested more than {DEPTH} deep, or in itself")
    if kind is list:
        return [_pack(item, (index, trail), depth - 1) for index, item in enumerate(value)]
    if kind is tuple:
        items = [_pack(item, (index, trail), depth - 1) for index, item in enumerate(value)]
        return {"~t": items}
    if kind is dict:
        return _pack_dict(value, trail, depth - 1)
    raise NotCarriable(
        f"{_path(trail)} is of the type {_name(kind)}; a session carries only None, bool, int, "
        "float, str, bytes, list, tuple and dict, and none of their subclasses"
    )


def _pack_dict(value: dict[Any, Any], trail: _Trail, depth: int) -> dict[str, Any]:
    packed = {}
    for key, item in value.items():
        if type(key) is not str:
            raise NotCarriable(
                f"{_path(trail)} has the key {key!r} of the type {_name(type(key))}; "
                "a session carries only dicts whose keys are str"
            )
        packed[key] = _pack(item, (key, trail), depth)
    if len(packed) == 1:
        [(key, item)] = packed.items()
        if key.startswith("~"):
            return {"~" + key: item}
    return packed


def _unpack(members: dict[str, Any]) -> Any:
    if len(members) != 1:
        return members
    [(tag, content)] = members.items()
    if not tag.startswith("~"):
        return members
    if tag == "~b":
        return b64decode(content, validate=True)
    if tag == "~t":
        return tuple(content)
    return {tag[1:]: content}


def _path(trail: _Trail) -> str:
    """
    Write a path as Python would, with dots for keys that are names: ``cart[2].item``.
    """
    steps = []
    while trail:
        step, trail = trail
        steps.append(step)
    path = ""
    for step in reversed(steps):
        if isinstance(step, str) and step.isidentifier():
            path += f".{step}" if path else step
        else:
            path += f"[{step!r}]"
    return path or "the session's data"


def _name(kind: type) -> str:
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
