"""
Tests of signed slots.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.affinity.token import MOST_STRANGERS, Signer, is_cookie, random_id
from stickyd.errors import SettingError

OLD = b"an old secret, long enough"
NEW = b"a new secret, long enough"
SIGNER = Signer([NEW])
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(st.integers(0, 4095))
def test_cookie_round_trip(slot: int) -> None:
    """
    A cookie names its slot, and is safe in a cookie and a URL.
    """
    value = SIGNER.mint(slot)
    assert re.fullmatch(r"[A-Za-z0-9._~-]+", value)
    assert SIGNER.slot_of(value.encode()) == slot
    assert Signer([NEW]).slot_of(value.encode()) == slot


def test_two_cookies_differ() -> None:
    """
    Two clients of one slot get different cookies.
    """
    assert SIGNER.mint(1) != SIGNER.mint(1)
    assert len({random_id() for _ in range(100)}) == 100
    assert Signer([NEW], lambda: "x").mint(1).startswith("1.x.")


@pytest.mark.parametrize(
    "value",
    [SIGNER.mint(3).encode(), SIGNER.stamp(b"id", 3), SIGNER.stamp(b"\xff", 3)],
    ids=["cookie", "stamp", "stamp of a byte"],
)
def test_any_change_is_noticed(value: bytes) -> None:
    """
    A token with a byte changed, added or taken away is forged.
    """
    # The last character of the signature carries four bits, the other two are not compared.
    for position in range(len(value) - 1):
        for byte in (b"1", b"x", b"", b"\n", b"~", value[position : position + 1] + b"!"):
            forged = value[:position] + byte + value[position + 1 :]
            if forged != value:
                assert SIGNER.slot_of(forged) is None
                assert SIGNER.unstamp(forged) is None
    for forged in (value + b"A", value + b"=", value + b"\n", b" " + value, b"." + value):
        assert SIGNER.slot_of(forged) is None
        assert SIGNER.unstamp(forged) is None


@given(st.one_of(st.binary(), st.integers(0, 99).map(lambda slot: b"%d.id." % slot + b"A" * 43)))
def test_any_bytes_are_forged(value: bytes) -> None:
    """
    What we did not sign names no slot, and is never an error.
    """
    assert SIGNER.slot_of(value) is None
    assert SIGNER.unstamp(value) is None


def test_cookies_and_stamps_are_apart() -> None:
    """
    A cookie's value is not a stamp, and a stamped id is not a cookie.
    """
    assert SIGNER.unstamp(SIGNER.mint(3).encode()) is None
    assert SIGNER.slot_of(SIGNER.stamp(b"3", 3)) is None
    assert SIGNER.slot_of(SIGNER.stamp(b"3.x", 3)) is None


def test_secrets_are_replaced_without_a_break() -> None:
    """
    The first secret signs, all verify, and a dropped one is forgotten.
    """
    before, between, after = Signer([OLD]), Signer([NEW, OLD]), Signer([NEW])
    old = before.mint(1).encode()
    new = between.mint(2).encode()
    assert between.slot_of(old) == 1
    assert before.slot_of(new) is None
    assert after.slot_of(new) == 2
    assert after.slot_of(old) is None
    assert after.unstamp(before.stamp(b"id", 1)) is None
    assert between.unstamp(before.stamp(b"id", 1)) == (b"id", 1)
    assert after.unstamp(between.stamp(b"id", 1)) == (b"id", 1)


def test_secrets_change_under_a_signer_that_others_hold() -> None:
    """
    The new secret is verified first, then signs, and the old one is forgotten; secrets that
    would not do change nothing.
    """
    signer, other = Signer([OLD]), Signer([NEW])
    old, new = signer.mint(1).encode(), other.mint(2).encode()
    assert (signer.slot_of(old), signer.slot_of(new)) == (1, None)
    signer.verify_also([NEW])
    assert (signer.slot_of(old), signer.slot_of(new)) == (1, 2)
    assert other.slot_of(signer.mint(3).encode()) is None
    with pytest.raises(SettingError):
        signer.replace([b"short"])
    assert signer.secrets == (OLD, NEW)
    signer.replace([NEW])
    assert (signer.slot_of(old), signer.slot_of(new)) == (None, 2)
    assert other.slot_of(signer.mint(3).encode()) == 3


@given(st.binary(), st.integers(0, 4095))
def test_stamp_round_trip(identifier: bytes, slot: int) -> None:
    """
    Any id comes back as it was, and the stamped one is visible ASCII.
    """
    stamped = SIGNER.stamp(identifier, slot)
    assert all(0x21 <= byte <= 0x7E for byte in stamped)
    assert SIGNER.unstamp(stamped) == (identifier, slot)
    assert SIGNER.unstamp(stamped) == (identifier, slot)


@pytest.mark.parametrize("identifier", [b"", b".", b"a.1.b", b"~", b"YQ==.~1", b"a" * 10000])
def test_ids_that_look_like_stamps(identifier: bytes) -> None:
    """
    Separators in an id, or a stamp that another stickyd put on it, come back untouched.
    """
    stamped = SIGNER.stamp(identifier, 7)
    assert stamped.startswith(identifier)
    assert SIGNER.unstamp(stamped) == (identifier, 7)
    assert SIGNER.unstamp(SIGNER.stamp(stamped, 8)) == (stamped, 8)


def test_forged_values_are_not_remembered() -> None:
    """
    Only good tokens are kept in the memo, so a flood of forged ones evicts none.
    """
    signer = Signer([NEW])
    good, stamped = signer.mint(1).encode(), signer.stamp(b"id", 1)
    for number in range(20):
        forged = b"%d.x." % number + b"A" * 43
        for value in (good, forged):
            signer.slot_of(value)
        for value in (stamped, forged):
            signer.unstamp(value)
    for memo in (signer._read_cookie, signer._read_stamp):
        info = memo.cache_info()
        assert (info.currsize, info.hits) == (1, 19)
        assert info.maxsize is not None


@pytest.mark.parametrize(
    ("keys", "message"),
    [([], "no secret is given"), ([NEW, b"short"], "secret 2 has 5 bytes")],
)
def test_weak_secrets_are_refused(keys: list[bytes], message: str) -> None:
    """
    A secret that can be guessed is the operator's error, and the message does not show it.
    """
    with pytest.raises(SettingError, match=message) as caught:
        Signer(keys)
    assert "short" not in str(caught.value)


def test_fault_5_tokens_of_others_are_kept() -> None:
    """
    Fault 5: a cookie has our token first and then those of others, the newest first, as many as
    may be; an older one of our own goes.
    """
    others = [Signer([b"the secret of deployment %d" % number]) for number in range(12)]
    value = ""
    for signer in [*others, SIGNER, *others, SIGNER]:
        strangers = signer.strangers_in([value.encode()])
        assert len(strangers) <= MOST_STRANGERS
        value = signer.mint(3, strangers)
        assert re.fullmatch(r"[A-Za-z0-9._~-]+", value)
        assert signer.slot_of(value.encode()) == 3
        assert is_cookie(value.encode())
    tokens = value.encode().split(b"~")
    assert len(tokens) == MOST_STRANGERS + 1
    assert [token for token in tokens if SIGNER.slot_of(token) is not None] == tokens[:1]
    assert others[11].slot_of(value.encode()) == 3


@given(st.binary())
def test_fault_5_garbage_is_not_kept(value: bytes) -> None:
    """
    Fault 5: only what looks like a token is.
    """
    assert SIGNER.strangers_in([value, b"~" + value, value + b"~"]) == []
    assert not is_cookie(value)


@pytest.mark.parametrize("identifier", [b"an id", b"id"])
def test_generations_are_named_and_belong_to_a_run(identifier: bytes) -> None:
    """
    Tokens name the generation that they are told; one of another run of the primary, or of none,
    is one of generation 0; a generation that somebody has changed makes a forgery.
    """
    before = Signer([NEW], run="01234567")
    after = Signer([NEW], run="89abcdef")
    for generation in (0, 1, 999_999_999):
        cookie = before.mint(3, generation=generation).encode()
        stamp = before.stamp(identifier, 3, generation)
        for named in (before.named_by(cookie), before.named_by_stamp(stamp)):
            assert named is not None
            assert named[:2] == (3, generation)
        for named in (after.named_by(cookie), after.named_by_stamp(stamp)):
            assert named is not None
            assert named[:2] == (3, 0)
        stamped = before.named_by_stamp(stamp)
        assert stamped is not None
        assert stamped.client == identifier
        assert before.slot_of(cookie) == 3
        assert is_cookie(cookie)
    forged = before.mint(3, generation=12).encode().replace(b"3-12-", b"3-13-")
    assert before.named_by(forged) is None
    plain = before.mint(3).encode()
    assert before.named_by(plain.replace(b"3.", b"3-1-01234567.", 1)) is None
    one, other = (before.named_by(before.mint(3, generation=1).encode()) for _ in range(2))
    assert one is not None
    assert other is not None
    assert one.client != other.client
