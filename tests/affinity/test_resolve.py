"""
From a client to its slot: the entries in order, and what each of them needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stickyd.affinity.address import IpKey, parse_text_key
from stickyd.affinity.client_identity import slot_identity
from stickyd.affinity.keys import CookieKey, HeaderKey, QueryKey
from stickyd.affinity.minted_ids import MintedIds
from stickyd.affinity.peek.client_hello import Hello
from stickyd.affinity.peek.http1 import Head
from stickyd.affinity.resolve import LONGEST_KEY_BYTES, NEWCOMER, Resolver, Verdict, learned_id
from stickyd.affinity.spec import LearnKey, parse_affinity
from stickyd.affinity.token import Signer
from stickyd.affinity.trust import Networks

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = b"a secret of some length"
SIGNER = Signer([SECRET])
FORGER = Signer([b"another secret of length"])
HOST = "192.0.2.7"
IP = IpKey().key_of(HOST)


def head(target: bytes = b"/", **headers: bytes) -> Head:
    """
    A request.
    """
    return Head(
        b"GET",
        target,
        [(name.replace("_", "-").encode(), value) for name, value in headers.items()],
    )


def resolver(
    entries: str, slots: int = 4, signer: Signer | None = SIGNER, **rest: object
) -> Resolver:
    """
    A resolver of a list, for so many available slots.
    """
    return Resolver(parse_affinity(entries), signer, lambda slot: slot < slots, **rest)  # type: ignore[arg-type]


def decided(verdict: Verdict) -> tuple[str, object]:
    """
    The entry of a verdict, and the one thing that it says.
    """
    said = [each for each in (verdict.slot, verdict.key, verdict.learned) if each is not None]
    assert len(said) == (0 if verdict.newcomer else 1)
    return str(verdict.entry), said[0] if said else None


def test_first_entry_that_matches_decides() -> None:
    """
    What stands later in the list is asked only if what stands before is not there.
    """
    every = resolver("cookie:stickyd,header:X-User,query:user,path:/room/(.+),ip")
    cookie = f"stickyd={SIGNER.mint(3)}".encode()
    request = head(b"/room/9?user=q", cookie=cookie, x_user=b"alice")
    assert decided(every.resolve(HOST, request)) == ("cookie:stickyd", 3)
    request.headers.pop(0)
    assert decided(every.resolve(HOST, request)) == ("header:X-User", b"alice")
    assert decided(every.resolve(HOST, head(b"/room/9?user=q"))) == ("query:user", b"q")
    assert decided(every.resolve(HOST, head(b"/room/9"))) == ("path:/room/(.+)", b"9")
    assert decided(every.resolve(HOST, head())) == ("ip/32/64", IP)


def test_without_bytes_only_the_address_is_left() -> None:
    """
    Entries that need a head or a hello which is not there fall through.
    """
    mixed = resolver("sni,header:X-User,learn:query:sid,stamp:X-Id,cookie:stickyd,ip")
    assert decided(mixed.resolve(HOST)) == ("ip/32/64", IP)
    assert mixed.resolve(HOST, hello=Hello(None)).key == IP
    assert decided(mixed.resolve(HOST, hello=Hello(b"a.example"))) == ("sni", b"a.example")


def test_client_whom_no_entry_knows_is_a_newcomer() -> None:
    """
    Without an address entry the list may match nobody.
    """
    listed = resolver("cookie:stickyd,header:X-User")
    assert listed.resolve(HOST, head()) == NEWCOMER
    assert listed.resolve(HOST).newcomer
    assert listed.handoff_key(NEWCOMER, HOST) == b""


@pytest.mark.parametrize(
    "value",
    [FORGER.mint(1), SIGNER.mint(4), SIGNER.mint(1)[:-1], "1", "", "1.x." + "A" * 43],
    ids=["forged", "gone", "cut off", "number", "empty", "unsigned"],
)
def test_token_that_does_not_count_falls_through(value: str) -> None:
    """
    Forged, cut off, or for a slot that is not available: it is as if it were not there.
    """
    listed = resolver("cookie:stickyd,ip")
    assert listed.resolve(HOST, head(cookie=f"stickyd={value}".encode())).key == IP


@pytest.mark.parametrize("entry", ["cookie:stickyd", "stamp:X-Id"])
def test_fault_4_the_token_that_verifies_counts(entry: str) -> None:
    """
    Fault 4: of several tokens the first that is ours and names an available slot; else the
    first that is ours.  So it is in one field, and in several.
    """
    listed = resolver(f"{entry},ip")

    def slot_of(*tokens: tuple[Signer, int]) -> object:
        cookie = entry.startswith("cookie")
        if cookie:
            values = [b"stickyd=" + signer.mint(slot).encode() for signer, slot in tokens]
        else:
            values = [signer.stamp(b"id", slot) for signer, slot in tokens]
        name = b"cookie" if cookie else b"x-id"
        apart = listed.resolve(HOST, Head(b"GET", b"/", [(name, value) for value in values]))
        if cookie:
            together = Head(b"GET", b"/", [(name, b"; ".join(values))])
            assert listed.resolve(HOST, together) == apart
        return decided(apart)[1]

    assert slot_of((FORGER, 1), (SIGNER, 2)) == 2
    assert slot_of((SIGNER, 2), (FORGER, 1)) == 2
    assert slot_of((FORGER, 1), (FORGER, 3), (SIGNER, 2), (SIGNER, 1)) == 2
    assert slot_of((SIGNER, 9), (SIGNER, 2)) == 2
    assert slot_of((FORGER, 1), (FORGER, 2)) == IP
    alone = resolver(entry)
    values = [SIGNER.stamp(b"id", slot) for slot in (9, 8)]
    gone = alone.resolve(HOST, Head(b"GET", b"/", [(b"x-id", value) for value in values]))
    if entry.startswith("stamp"):
        assert gone.weak
        assert gone.key == slot_identity(9, b"")


def test_stamp_names_its_slot() -> None:
    """
    A stamped id leads to the slot in its stamp, slot 0 too, and a foreign one nowhere.
    """
    listed = resolver("stamp:Mcp-Session-Id,ip")
    for slot in range(4):
        stamped = SIGNER.stamp(b"abc", slot)
        verdict = listed.resolve(HOST, head(mcp_session_id=stamped))
        assert decided(verdict) == ("stamp:Mcp-Session-Id", slot)
        assert listed.handoff_key(verdict, HOST) == IP
    for value in (b"abc", FORGER.stamp(b"abc", 1), SIGNER.stamp(b"abc", 77777)):
        assert listed.resolve(HOST, head(mcp_session_id=value)).key == IP


@pytest.mark.parametrize(
    ("entry", "request_with"),
    [
        ("minted:header:X-Id", lambda value: head(x_id=value)),
        ("minted:query:room", lambda value: head(b"/?a=b&room=" + value)),
        ("minted:cookie:id", lambda value: head(cookie=b"a=b; id=" + value)),
        ("minted:path:/room/([^/]+)", lambda value: head(b"/room/" + value + b"/x?y")),
    ],
)
def test_minted_id_names_its_slot(entry: str, request_with: Callable[[bytes], Head]) -> None:
    """
    It leads to the slot that has minted it; one that is none of ours falls through, and one of a
    slot that is gone leads where that one's sessions went.
    """
    ids = MintedIds([SECRET])
    listed = resolver(f"{entry},ip")
    for slot in range(4):
        verdict = listed.resolve(HOST, request_with(ids.mint("room-", slot, "").encode()))
        assert decided(verdict) == (entry, slot)
    gone = ids.mint("", 9, "").encode()
    forged = MintedIds([b"another secret, long enough"]).mint("", 1, "").encode()
    for value in (b"abc", forged, gone, ids.mint("", 1, "web2").encode(), b""):
        assert listed.resolve(HOST, request_with(value)).key == IP
    alone = resolver(entry).resolve(HOST, request_with(gone))
    assert (alone.weak, alone.key) == (True, slot_identity(9, b""))
    assert not resolver("ip").needs_head
    assert listed.needs_head
    assert listed.needs_fields_only == ("query" not in entry and "path" not in entry)


def test_token_of_a_slot_that_is_gone_is_the_last_resort() -> None:
    """
    It leaves it to every other entry; if none matches, its client is no newcomer but goes
    where the sessions of that slot went, whichever of its tokens it has.
    """
    cookie = f"stickyd={SIGNER.mint(77)}".encode()
    listed = resolver("cookie:stickyd,stamp:X-Id,header:X-User")
    assert listed.resolve(HOST, head(cookie=cookie, x_user=b"bob")).key == b"bob"
    for request in (head(cookie=cookie), head(x_id=SIGNER.stamp(b"abc", 77))):
        verdict = listed.resolve(HOST, request)
        assert verdict.key == slot_identity(77, b"")
        assert verdict.slot is None
        assert not verdict.newcomer
    both = head(cookie=cookie, x_id=SIGNER.stamp(b"abc", 78))
    assert listed.resolve(HOST, both).key == slot_identity(77, b"")


def test_tokens_need_a_secret() -> None:
    """
    Where there is no secret, no token counts.
    """
    listed = resolver("cookie:stickyd,stamp:X-Id,ip", signer=None)
    request = head(cookie=f"stickyd={SIGNER.mint(1)}".encode(), x_id=SIGNER.stamp(b"a", 1))
    assert listed.resolve(HOST, request).key == IP


def test_learned_id_is_left_to_whoever_knows() -> None:
    """
    Without the claims the id itself is the verdict; with them, the slot that has claimed it.
    """
    request = head(cookie=b"session=s1", x_user=b"bob")
    identifier = learned_id(CookieKey("session"), b"s1")
    entries = "learn:cookie:session,header:X-User"
    assert decided(resolver(entries).resolve(HOST, request)) == ("learn:cookie:session", identifier)
    claims = {identifier: 2}
    knowing = resolver(entries, owner_of=claims.get)
    assert decided(knowing.resolve(HOST, request)) == ("learn:cookie:session", 2)
    claims[identifier] = 4
    assert knowing.resolve(HOST, request).key == b"bob"
    claims.clear()
    assert knowing.resolve(HOST, request).key == b"bob"
    assert knowing.resolve(HOST, head()).newcomer


def test_learned_ids_differ_by_place_and_value() -> None:
    """
    The same id in another cookie or header is another one; a header's name has no case.
    """
    ids = {
        learned_id(source, value)
        for source in (HeaderKey("sid"), CookieKey("sid"), QueryKey("sid"), CookieKey("Sid"))
        for value in (b"1", b"2")
    }
    assert len(ids) == 8
    assert {len(each) for each in ids} == {16}
    assert learned_id(HeaderKey("X-Sid"), b"1") == learned_id(HeaderKey("x-sID"), b"1")


def test_long_value_is_digested() -> None:
    """
    A key has a bound, and differs where the values do.
    """
    listed = resolver("header:X-User")

    def key(value: bytes) -> bytes:
        verdict = listed.resolve(HOST, head(x_user=value))
        assert verdict.key
        return verdict.key

    assert key(b"a" * LONGEST_KEY_BYTES) == b"a" * LONGEST_KEY_BYTES
    long = [key(b"a" * LONGEST_KEY_BYTES + end) for end in (b"b", b"c", b"c" * 65536)]
    assert len(set(long)) == 3
    assert max(map(len, long)) <= LONGEST_KEY_BYTES


TRUST = Networks.parse("10.0.0.0/8")


def test_forwarded_client_is_the_address() -> None:
    """
    A trusted peer says who the client is, and nobody else does.
    """
    listed = resolver("ip", trust=TRUST)
    request = head(x_forwarded_for=b"203.0.113.1, 192.0.2.7")
    assert listed.resolve("10.1.2.3", request).key == IP
    assert listed.resolve("198.51.100.1", request).key == IpKey().key_of("198.51.100.1")
    assert listed.resolve("10.1.2.3", head()).key == IpKey().key_of("10.1.2.3")
    assert listed.resolve("10.1.2.3").key == IpKey().key_of("10.1.2.3")
    cookied = resolver("cookie:stickyd,ip", trust=TRUST)
    verdict = Verdict(CookieKey("stickyd"), slot=1)
    assert cookied.handoff_key(verdict, "10.1.2.3", request) == IP


@pytest.mark.parametrize(
    ("entries", "needs"),
    [
        ("ip", (False, False)),
        ("header:X-User", (True, False)),
        ("learn:query:sid,ip", (True, False)),
        ("sni", (False, True)),
        ("sni,cookie:a,ip", (True, True)),
        ("ip,cookie:a,sni", (False, False)),
    ],
)
def test_needs_what_can_be_asked(entries: str, needs: tuple[bool, bool]) -> None:
    """
    What stands behind the address is never asked, so nothing is needed for it.
    """
    listed = resolver(entries)
    assert (listed.needs_head, listed.needs_hello) == needs
    assert not listed.needs_origin
    assert resolver(entries, trust=TRUST).needs_origin == ("ip" in entries.split(","))


def test_address_counts_as_the_list_says() -> None:
    """
    The fallback is the address entry, or the whole address where there is none.
    """
    assert resolver("header:X,ip/24").fallback_key(HOST) == IpKey(24).key_of(HOST)
    assert resolver("header:X").fallback_key(HOST) == IP
    text = Resolver(parse_affinity("ip", parse_text_key), None, lambda _: True)
    assert text.resolve(HOST).key == HOST.encode() == text.fallback_key(HOST)


@pytest.mark.parametrize("entry", ["learn:cookie:sid", "learn:header:X-Id"])
def test_fault_4_the_id_that_was_claimed_counts(entry: str) -> None:
    """
    Fault 4, of ids: of several the first that a worker has claimed.
    """
    (key,) = parse_affinity(entry).keys
    assert isinstance(key, LearnKey)
    owners = {learned_id(key.source, b"ours"): 2, learned_id(key.source, b"gone"): 9}
    listed = resolver(f"{entry},ip", owner_of=owners.get)

    def slot_of(*values: bytes) -> object:
        fields = [(b"cookie", b"sid=" + value) for value in values]
        fields += [(b"x-id", value) for value in values]
        return decided(listed.resolve(HOST, Head(b"GET", b"/", fields)))[1]

    assert slot_of(b"foreign", b"ours") == 2
    assert slot_of(b"ours", b"foreign") == 2
    assert slot_of(b"gone", b"", b"ours") == 2
    assert slot_of(b"foreign", b"gone") == IP
