"""
What one request sees of a session, against a model of two writers.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stickyd.errors import NotCarriable, SessionConflict
from stickyd.sessions.apps.tracked import TrackedData
from stickyd.sessions.plain import decode, encode

KEYS = ["a", "b", "c"]

VALUES = st.one_of(
    st.integers(0, 2), st.lists(st.integers(0, 2), max_size=2), st.just("x"), st.booleans()
)

#: What a request may do: a name, a key, a value.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["get", "in", "len", "bool", "items", "set", "delete", "pop", "setdefault", "append",
             "clear", "update", "popitem", "copy", "keys", "equals"]
        ),
        st.sampled_from(KEYS),
        VALUES,
    ),
    max_size=6,
)  # fmt: skip

DATA = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3)


def do(data: Any, steps: list[tuple[str, str, Any]]) -> list[Any]:
    """
    Do what a request does to a mapping.

    :return: what it has seen.
    """
    seen: list[Any] = []
    for name, key, value in steps:
        given_value = copy.deepcopy(value)
        match name:
            case "get":
                seen.append(copy.deepcopy(data.get(key)))
            case "in":
                seen.append(key in data)
            case "len":
                seen.append(len(data))
            case "bool":
                seen.append(bool(data))
            case "items":
                seen.append(copy.deepcopy(sorted(data.items(), key=lambda item: item[0])))
            case "keys":
                seen.append(sorted(data.keys()))
            case "copy":
                seen.append(copy.deepcopy(dict(data)))
            case "equals":
                seen.append(data == {key: value})
            case "set":
                data[key] = given_value
            case "update":
                data.update({key: given_value})
            case "setdefault":
                seen.append(copy.deepcopy(data.setdefault(key, given_value)))
            case "delete":
                try:
                    del data[key]
                except KeyError:
                    seen.append("no such key")
            case "pop":
                seen.append(data.pop(key, "nothing"))
            case "popitem":
                try:
                    seen.append(data.popitem()[0])
                except KeyError:
                    seen.append("no item")
            case "append":
                found = data.get(key)
                seen.append(copy.deepcopy(found))
                if isinstance(found, list):
                    found.append(9)
            case "clear":
                data.clear()
    return seen


@given(DATA, STEPS)
def test_is_a_dict(start: dict[str, Any], steps: list[tuple[str, str, Any]]) -> None:
    """
    Whatever is done to it, it says and holds what a dict does; and it knows whether it is
    what was loaded.
    """
    text, model = encode(start), copy.deepcopy(start)
    data = TrackedData(text)
    assert do(data, steps) == do(model, steps)
    assert decode(data.merged(text)) == model
    assert list(decode(data.merged(text))) == list(model)
    assert data.accessed == bool(steps)
    if encode(model) != text and list(model) == list(start):
        assert data.modified
        assert data.unsaved
    data.settled(data.merged(text))
    assert not data.unsaved
    assert dict(data) == model


@settings(max_examples=400)
@given(DATA, STEPS, STEPS)
def test_two_writers_are_as_one_after_the_other(
    start: dict[str, Any], first: list[tuple[str, str, Any]], second: list[tuple[str, str, Any]]
) -> None:
    """
    Two requests that ran at the same time, of which the later one was not refused, have seen and
    left what they would one after the other; and one that has changed nothing is never refused.
    """
    text = encode(start)
    one, other = TrackedData(text), TrackedData(text)
    seen = do(one, first), do(other, second)
    current = one.merged(text)
    if not other.unsaved:
        return
    try:
        outcome = other.merged(current)
    except SessionConflict:
        return
    model = copy.deepcopy(start)
    assert (do(model, first), do(model, second)) == seen
    assert decode(outcome) == model
    other.settled(outcome)
    assert dict(other) == model


@given(DATA, STEPS, STEPS, STEPS)
def test_goes_on_after_it_was_saved(
    start: dict[str, Any],
    first: list[tuple[str, str, Any]],
    second: list[tuple[str, str, Any]],
    rest: list[tuple[str, str, Any]],
) -> None:
    """
    A WebSocket saves and goes on, with the values that it holds: what others do meanwhile is
    seen from then on.
    """
    one, other = TrackedData(encode(start)), TrackedData(encode(start))
    do(one, first)
    do(other, second)
    held = {key: other.get(key) for key in KEYS}
    try:
        current = other.merged(one.merged(encode(start)))
    except SessionConflict:
        return
    other.settled(current)
    model = decode(current)
    for key, value in held.items():
        if isinstance(value, list) and isinstance(model.get(key), list) and value == model[key]:
            value.append(7)
            model[key].append(7)
    assert dict(other) == model
    assert do(other, rest) == do(model, rest)
    assert decode(other.merged(current)) == model


def test_different_keys_do_not_meet() -> None:
    """
    Two requests that use different keys are both saved, even deep inside of values.
    """
    text = encode({"cart": {"items": [1]}, "seen": []})
    one, other = TrackedData(text), TrackedData(text)
    one["cart"]["items"].append(2)
    other["seen"].append("news")
    other["theme"] = "dark"
    outcome = other.merged(one.merged(text))
    assert decode(outcome) == {"cart": {"items": [1, 2]}, "seen": ["news"], "theme": "dark"}


@pytest.mark.parametrize(
    ("first", "second", "used"),
    [
        (lambda s: s.update(n=1), lambda s: s.update(n=2), "'n'"),
        (lambda s: s.update(n=1), lambda s: s.update(m=s.get("n", 0)), "'n'"),
        (lambda s: s["l"].append(1), lambda s: s["l"].append(2), "'l'"),
        (lambda s: s.pop("l"), lambda s: s["l"].append(2), "'l'"),
        (lambda s: s.update(n=1), lambda s: (s.clear(), s.update(m=1)), "'n'"),
        (lambda s: s.update(n=1), lambda s: s.update(count=len(s)), "'n'"),
        (lambda s: s.clear(), lambda s: bool(s) and s.update(m=1), "whether there is anything"),
    ],
)
def test_conflicts_are_told(first: Any, second: Any, used: str) -> None:
    """
    Who has read or written what another has changed meanwhile is refused, and told which key.
    """
    text = encode({"l": []})
    one, other = TrackedData(text), TrackedData(text)
    first(one)
    second(other)
    current = one.merged(text)
    with pytest.raises(SessionConflict, match=used):
        other.merged(current)


def test_same_value_is_no_conflict() -> None:
    """
    Two that only write, and write the same, do not hinder each other.
    """
    one, other = TrackedData(), TrackedData()
    one["last"] = other["last"] = "/news"
    current = one.merged(b"{}")
    assert other.merged(current) == current


def test_own_transaction_is_known() -> None:
    """
    What a request has read and then changed in a transaction does not hinder it later; what
    somebody else has changed still does.
    """
    text = encode({"n": 5, "other": 1, "l": [1]})
    data = TrackedData(text)
    assert (data["n"], data["other"]) == (5, 1)
    current = encode({"n": 6, "other": 1, "l": [1, 2]})
    data.absorb(current, {"n", "l"})
    assert data == {"n": 6, "other": 1, "l": [1, 2]}
    data["l"].append(3)
    data["m"] = 1
    assert decode(data.merged(current)) == {"n": 6, "other": 1, "l": [1, 2, 3], "m": 1}
    with pytest.raises(SessionConflict, match="'other'"):
        data.merged(encode({"n": 6, "other": 2, "l": [1, 2]}))


def test_is_loaded_when_it_is_asked_for() -> None:
    """
    Nothing is loaded before the first use, be it C code that uses it, nor twice; and what fails
    can be tried again.
    """
    loads = []

    def load() -> bytes:
        loads.append(1)
        if len(loads) == 1:
            raise OSError
        return b'{"n":1}'

    data = TrackedData(load=load)
    assert (data.loaded, data.modified, data.unsaved) == (False, False, False)
    assert "not loaded" in repr(data)
    assert not loads
    with pytest.raises(OSError):  # noqa: PT011 - it has no message
        data["m"] = 2
    assert json.dumps(data) == '{"n": 1}'
    assert json.loads(json.dumps(copy.deepcopy(data))) == {"n": 1}
    assert data.loaded
    assert len(loads) == 2


def test_what_cannot_be_carried_is_refused_where_it_is_put() -> None:
    """
    A key that is no string and a value that is no plain data are refused by the statement that
    puts them in, which changes nothing; inside of a value when it is saved.
    """
    data = TrackedData()
    wrong: list[tuple[Any, Any]] = [(1, "x"), ("k", object()), ("k", {1: 2}), ("k", {3, 4})]
    for key, value in wrong:
        with pytest.raises(NotCarriable):
            data[key] = value
        with pytest.raises(NotCarriable):
            data.update({"fine": 1, key: value})
        with pytest.raises(NotCarriable):
            data.setdefault(key, value)
    assert not data
    assert not data.unsaved
    data["list"] = []
    data["list"].append(object())
    with pytest.raises(NotCarriable, match=r"list\[0\]"):
        data.merged(b"{}")


def test_flags_may_be_set() -> None:
    """
    Frameworks set the flags themselves.
    """
    data = TrackedData(b'{"n":1}')

    def flags() -> tuple[bool, bool, bool]:
        return data.accessed, data.modified, data.unsaved

    data.mark_accessed()
    assert flags() == (True, False, False)
    data.modified = True
    assert flags() == (True, True, False)
    data.modified = data.accessed = False
    assert flags() == (False, False, False)
    data.mark_modified()
    assert flags() == (True, True, False)
