"""
Tests of the data of a session in use.
"""

from __future__ import annotations

from typing import Any

import pytest
from zope.interface.verify import verifyObject

from stickyd.errors import NotCarriable, SessionMoved, SessionTooLarge
from stickyd.sessions.data import SessionData
from stickyd.sessions.interfaces import ISessionData
from stickyd.sessions.plain import decode


def allowed() -> None:
    """
    Let every change pass.
    """


def data_of(text: bytes = b"{}", limit: int = 1_000) -> SessionData:
    """
    Make data that nobody guards.
    """
    return SessionData(text, limit, allowed)


def test_interface() -> None:
    """
    The data provides ISessionData.
    """
    assert verifyObject(ISessionData, data_of())


def test_mapping() -> None:
    """
    It does what a dict does.
    """
    data = data_of(b'{"a":1,"b":2}')
    data["c"] = 3
    del data["a"]
    data.update(b=4, d=None)
    assert dict(data) == {"b": 4, "c": 3, "d": None}
    assert list(data) == ["b", "c", "d"]
    assert len(data) == 3
    assert data.pop("d", 7) is None
    assert "d" not in data
    assert data == {"b": 4, "c": 3}
    assert repr(data) == "SessionData({'b': 4, 'c': 3})"
    with pytest.raises(KeyError):
        data["a"]
    with pytest.raises(KeyError):
        del data["a"]
    data.clear()
    assert dict(data) == {}
    assert data.seal() == b"{}"


def test_nothing_to_save() -> None:
    """
    Data that nobody changed, read or not, has no new text.
    """
    data = data_of(b'{"a":1,"b":[2]}')
    unsealed = [data.unsealed]
    assert data.seal() is None
    assert data["a"] == 1
    unsealed.append(data.unsealed)
    assert data["b"] == [2]
    unsealed.append(data.unsealed)
    assert unsealed == [False, False, True]
    assert data.seal() is None


def test_stored_value_is_a_copy() -> None:
    """
    What is stored does not change with the value that was given.
    """
    cart: list[Any] = [1, {"n": (2, [3])}]
    data = data_of()
    data["cart"] = cart
    cart.append(4)
    cart[1]["n"][1].append(5)
    assert data["cart"] == [1, {"n": (2, [3])}]


def test_change_inside_is_kept() -> None:
    """
    A change inside a list or dict that the session gave out changes the session.
    """
    data = data_of(b'{"cart":[{"n":1}]}')
    data["cart"][0]["n"] = 2
    assert data.seal() == b'{"cart":[{"n":2}]}'


@pytest.mark.parametrize("text", [b'{"x":[[1]]}', b'{"x":{"~t":[[1]]}}', b'{"x":{"k":[1]}}'])
def test_change_inside_later_is_kept(text: bytes) -> None:
    """
    Who keeps an inner list across a save, and changes it only then, still changes the session.
    """
    data = data_of(text)
    outer = data["x"]
    inner = outer["k"] if isinstance(outer, dict) else outer[0]
    saved = data.seal()
    assert saved is None
    inner.append(2)
    changed = data.seal()
    assert changed == text.replace(b"[1]", b"[1,2]")
    data.saved(changed)
    assert data.seal() is None
    inner.append(3)
    assert data.seal() == text.replace(b"[1]", b"[1,2,3]")


@pytest.mark.parametrize("give", ["values", "items", "get", "setdefault"])
def test_every_way_to_a_value_counts(give: str) -> None:
    """
    A list may be reached by any method of a mapping, and a change in it is seen.
    """
    data = data_of(b'{"x":[1]}')
    match give:
        case "values":
            [found] = data.values()
        case "items":
            [(_, found)] = data.items()
        case "get":
            found = data.get("x")
        case _:
            found = data.setdefault("x", None)
    found.append(2)
    assert data.seal() == b'{"x":[1,2]}'


def test_setdefault_gives_the_stored_value() -> None:
    """
    data.setdefault("cart", []).append(1) puts 1 into the session, and not into the default.
    """
    data = data_of()
    default: list[int] = []
    data.setdefault("cart", default).append(1)
    assert default == []
    assert data.seal() == b'{"cart":[1]}'


def test_one_value_is_one_object() -> None:
    """
    In one process, the same key gives the same list until it is stored anew.
    """
    data = data_of(b'{"x":[1]}')
    assert data["x"] is data["x"]
    data["y"] = data["x"]
    data["x"].append(2)
    assert data["y"] == [1]


def test_refused_changes_nothing() -> None:
    """
    A value that cannot be carried is refused where it is stored, with its place, and the old
    one stays.
    """
    data = data_of(b'{"x":1}')
    with pytest.raises(NotCarriable, match=r"^x\[1\]\.y is of the type object;"):
        data["x"] = [0, {"y": object()}]
    with pytest.raises(NotCarriable, match=r"^the session's data has the key 5 "):
        data[5] = 1  # type: ignore[index]  # the mistake that is tested
    assert dict(data) == {"x": 1}
    assert data.seal() is None


def test_smuggled_is_refused_at_seal() -> None:
    """
    A value that cannot be carried, put into a list that was given out, is found at the seal.
    """
    data = data_of(b'{"cart":[]}')
    data["cart"].append(object())
    with pytest.raises(NotCarriable, match=r"^cart\[0\] is of the type object;"):
        data.seal()


def test_too_large() -> None:
    """
    A value that makes the data too large is refused where it is stored, exactly at the limit.
    """
    data = data_of(limit=20)
    data["x"] = "a" * 12  # {"x":"aaaaaaaaaaaa"} is 20 bytes
    with pytest.raises(SessionTooLarge, match=r"with 'x' .* would be 21 bytes; 20 are allowed"):
        data["x"] = "a" * 13
    with pytest.raises(SessionTooLarge, match=r"with 'y'"):
        data["y"] = [1]
    assert data.seal() == b'{"x":"aaaaaaaaaaaa"}'


def test_size_does_not_add_up() -> None:
    """
    Storing small values again and again never seems too large.
    """
    data = data_of(limit=100)
    for number in range(1_000):
        data["n"] = number
        data["l"] = [number]
    assert data.seal() == b'{"n":999,"l":[999]}'


def test_grown_too_large_inside() -> None:
    """
    A list that has grown too large in place is found at the seal.
    """
    data = data_of(b'{"x":[]}', limit=50)
    data["x"].extend(range(100))
    with pytest.raises(SessionTooLarge, match=r"has grown to \d+ bytes; 50 are allowed"):
        data.seal()


def test_reset() -> None:
    """
    After a reset the data is what it was set to, and what was given out before is not in it.
    """
    data = data_of(b'{"x":[]}')
    old = data["x"]
    data["y"] = 1
    data.reset(b'{"x":[0]}')
    old.append(object())
    assert dict(data) == {"x": [0]}
    assert data.seal() is None


def test_unsaved_is_sealed_again() -> None:
    """
    What was sealed but could not be saved is sealed again.
    """
    data = data_of()
    data["x"] = 1
    assert data.seal() == b'{"x":1}'
    assert data.seal() is None
    data.unsaved()
    assert data.seal() == b'{"x":1}'


def test_guard() -> None:
    """
    The guard can forbid every change; reading stays allowed.
    """

    def refuse() -> None:
        raise SessionMoved("moved")

    data = SessionData(b'{"x":1}', 100, refuse)
    with pytest.raises(SessionMoved):
        data["x"] = 2
    with pytest.raises(SessionMoved):
        del data["x"]
    with pytest.raises(SessionMoved):
        data.clear()
    assert dict(data) == {"x": 1}


def test_seal_is_what_decode_reads() -> None:
    """
    The sealed text gives the same values, tuples and bytes included.
    """
    data = data_of()
    data["t"] = (b"\0", [None, True, 1.5])
    text = data.seal()
    assert text is not None
    assert decode(text) == {"t": (b"\0", [None, True, 1.5])}
