"""
Tests of plain data and its form outside the process.
"""

from __future__ import annotations

import enum
import math
import sys
from collections import OrderedDict
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from stickyd.errors import NotCarriable, SessionError
from stickyd.sessions.plain import DEPTH, INTEGER_BITS, decode, encode, scalar_size

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**INTEGER_BITS) + 1, 2**INTEGER_BITS - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
)
KEYS = st.sampled_from(["~", "~b", "~t", "~~b", "a", ""]) | st.text(max_size=5)
PLAIN = st.recursive(
    SCALARS | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=20,
)


class Color(enum.IntEnum):
    """
    An int that is none.
    """

    RED = 1


class Name(str):
    """
    A str that is none.
    """

    __slots__ = ()


def shape(value: Any) -> Any:
    """
    Write a value with the type of each part, and dicts in their order.
    """
    if isinstance(value, dict):
        return ("dict", [(key, shape(item)) for key, item in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [shape(item) for item in value])
    return (type(value).__name__, repr(value))


@given(st.dictionaries(KEYS, PLAIN, max_size=5))
def test_there_and_back(data: dict[str, Any]) -> None:
    """
    What is read is what was written, with the same types and order, in one line of ASCII.
    """
    text = encode(data)
    assert shape(decode(text)) == shape(data)
    assert text.isascii()
    assert b"\n" not in text
    assert encode(decode(text)) == text


def test_not_a_number() -> None:
    """
    The floats that JSON does not know are carried too.
    """
    back = decode(encode({"nan": math.nan, "inf": math.inf, "-inf": -math.inf}))
    assert math.isnan(back["nan"])
    assert (back["inf"], back["-inf"]) == (math.inf, -math.inf)


def test_form() -> None:
    """
    The text is the one that is documented, tags and their escapes included.
    """
    data = {"b": b"\0", "t": (1, [2]), "one": {"~b": "AA=="}, "two": {"~b": 1, "c": 2}, "é": 1.5}
    assert encode(data) == (
        b'{"b":{"~b":"AA=="},"t":{"~t":[1,[2]]},"one":{"~~b":"AA=="},'
        b'"two":{"~b":1,"c":2},"\\u00e9":1.5}'
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"cart": [1, 2, {"item": object()}]}, "cart[2].item is of the type object;"),
        ({"cart": ({"a b": {1}},)}, "cart[0]['a b'] is of the type set;"),
        ({"x": {"y": {3: "z"}}}, "x.y has the key 3 of the type int;"),
        ({"x": Color.RED}, f"x is of the type {__name__}.Color;"),
        ({"x": Name("n")}, f"x is of the type {__name__}.Name;"),
        ({"x": OrderedDict()}, "x is of the type collections.OrderedDict;"),
        ({"x": bytearray()}, "x is of the type bytearray;"),
        ({"x": 2**INTEGER_BITS}, "x: an int of more than 2048 bits"),
        ({5: 1}, "the session's data has the key 5 of the type int;"),
        ({Name("n"): 1}, f"the session's data has the key 'n' of the type {__name__}.Name;"),
        ({"": object()}, "[''] is of the type object;"),
    ],
)
def test_refused(data: dict[str, Any], message: str) -> None:
    """
    What is not plain data is refused by a TypeError that names its place and type.
    """
    with pytest.raises(NotCarriable) as caught:
        encode(data)
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, SessionError)


def test_itself_inside() -> None:
    """
    A list that contains itself is refused, and not followed forever.
    """
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotCarriable, match=r"nested more than 100 deep, or in itself"):
        encode({"loop": loop})


def test_deep() -> None:
    """
    As deep as is allowed goes, one more does not.
    """
    value: Any = 1
    for _ in range(DEPTH - 1):
        value = [value]
    data = {"x": value}
    assert decode(encode(data)) == data
    with pytest.raises(NotCarriable):
        encode({"x": [value]})


def test_largest_integer_passes_the_lowest_limit() -> None:
    """
    The largest integer can be read even where Python reads only 640 digits.
    """
    largest = -(2**INTEGER_BITS) + 1
    text = encode({"x": largest})
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert decode(text) == {"x": largest}
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b'{"x":{"~b":"*"}}', b"\xff"])
def test_not_ours(text: bytes) -> None:
    """
    A text that encode() cannot have written is refused.
    """
    with pytest.raises(ValueError, match=r".*"):
        decode(text)


@given(SCALARS)
def test_scalar_size_is_enough(value: Any) -> None:
    """
    No scalar is written in more bytes than scalar_size() says.
    """
    size = scalar_size(value)
    assert size is not None
    assert len(encode({"": value})) <= size + len('{"":}')


@pytest.mark.parametrize(
    "value", [b"", [], (), {}, 2**INTEGER_BITS, Color.RED, Name("n"), object()]
)
def test_scalar_size_of_others(value: Any) -> None:
    """
    Of what must be copied or refused, scalar_size() says nothing.
    """
    assert scalar_size(value) is None
