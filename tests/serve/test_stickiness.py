"""
What is done to requests and responses so that clients find back.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent

from stickyd.affinity.keys import CookieKey, HeaderKey
from stickyd.affinity.resolve import learned_id
from stickyd.affinity.spec import parse_affinity
from stickyd.affinity.token import Signer
from stickyd.affinity.trust import Networks
from stickyd.serve.stickiness import CookieAttributes, GenerationMarks, Stickiness
from tests.hosting import logged

SIGNER = Signer([b"a secret of some length"])
OTHER = Signer([b"another secret of some length"])
PROXY = "10.0.0.1"
CLIENT = "192.0.2.7"


class Rig:
    """
    The stickiness of the worker in slot 2.
    """

    def __init__(
        self, entries: str, cookie: CookieAttributes | None = None, signer: Signer = SIGNER
    ) -> None:
        self.slot = 2
        self.claimed: list[list[bytes]] = []
        self.answer: Deferred[None] = Deferred()
        self.stickiness = Stickiness(
            parse_affinity(entries),
            signer,
            lambda: self.slot,
            self._claim,
            Networks.parse("10.0.0.0/8,unix"),
            cookie,
        )

    def _claim(self, identifiers: list[bytes]) -> Deferred[None]:
        self.claimed.append(identifiers)
        return self.answer

    def begin(self, *pairs: tuple[bytes, bytes], host: str = CLIENT, secure: bool = False) -> Any:
        """
        Receive a request.
        """
        return self.stickiness.begin(host, secure, list(pairs))


def cookie_of(signer: Signer, slot: int) -> tuple[bytes, bytes]:
    """
    The field of a client that has the cookie.
    """
    return b"cookie", b"a=b; stickyd=" + signer.mint(slot).encode()


def set_by(fields: list[tuple[bytes, bytes]]) -> list[bytes]:
    """
    What the responses sets as cookies.
    """
    return [value for name, value in fields if name.lower() == b"set-cookie"]


def test_cookie_is_set_for_who_has_none() -> None:
    """
    It names our slot; the other fields stay as they are, before it.
    """
    rig = Rig("cookie:stickyd,ip")
    first, *cookies = rig.begin().respond([(b"X-A", b"b")])
    assert first == (b"X-A", b"b")
    ((name, value),) = cookies
    assert name == b"Set-Cookie"
    token, _, attributes = value.partition(b"; ")
    assert SIGNER.slot_of(token.removeprefix(b"stickyd=")) == 2
    assert attributes == b"Path=/; HttpOnly; SameSite=Lax"


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        (cookie_of(SIGNER, 2), False),
        (cookie_of(SIGNER, 1), True),
        (cookie_of(OTHER, 2), True),
        ((b"cookie", b"other=" + SIGNER.mint(2).encode()), True),
        ((b"x-cookie", b"stickyd=" + SIGNER.mint(2).encode()), True),
    ],
)
def test_cookie_is_set_unless_a_good_one_came(field: tuple[bytes, bytes], wanted: bool) -> None:
    """
    A cookie of another slot, a forged one and none at all are replaced.
    """
    assert bool(set_by(Rig("cookie:stickyd,ip").begin(field).respond([]))) == wanted


def test_cookie_of_the_application_counts() -> None:
    """
    An application that sets the cookie itself knows better; another one of its cookies
    does not matter.
    """
    rig = Rig("cookie:stickyd")
    assert len(set_by(rig.begin().respond([(b"set-cookie", b"stick=x")]))) == 2
    assert set_by(rig.begin().respond([(b"Set-Cookie", b"stickyd=x; Path=/")])) == [
        b"stickyd=x; Path=/"
    ]


@pytest.mark.parametrize("name", ["session", "sid", "stickyd"])
def test_fault_6_the_application_sets_a_cookie_of_our_name(name: str) -> None:
    """
    Fault 6: from then on ours is not set any more, whatever the client brings, and the log
    says so once, with the name and what to write.
    """
    rig = Rig(f"cookie:{name}")
    cookie = b"%b=eyJ1c2VyIjoxfQ.Zx.abc" % name.encode()
    assert len(set_by(rig.begin().respond([]))) == 1
    with logged() as events:
        for _ in range(3):
            assert set_by(rig.begin().respond([(b"Set-Cookie", cookie)])) == [cookie]
            assert set_by(rig.begin((b"cookie", cookie)).respond([])) == []
            assert set_by(rig.begin().respond([])) == []
    (line,) = (formatEvent(event) for event in events)
    assert line.startswith(f"The application sets a cookie named {name} itself")
    assert "write --affinity cookie:stickyd" in line
    assert f"cookie:{name}," not in line
    assert rig.begin((b"cookie", cookie)).unremarkable


@pytest.mark.parametrize("value", [b"eyJ1c2VyIjoxfQ.Zx.abc", b"", b"0", b'"quoted"', b"\xff"])
def test_fault_6_what_may_be_the_applications_is_not_overwritten(value: bytes) -> None:
    """
    Fault 6: under a name that applications use, a value that no stickyd has made is left
    alone, though this worker has not seen the application set it; a forged one of ours is not.
    """
    rig = Rig("cookie:session")
    assert set_by(rig.begin((b"cookie", b"a=b; session=" + value)).respond([])) == []
    forged = OTHER.mint(2).encode()
    assert len(set_by(rig.begin((b"cookie", b"session=" + forged)).respond([]))) == 1
    assert len(set_by(Rig("cookie:stickyd").begin((b"cookie", b"stickyd=" + value)).respond([])))


def test_fault_6_no_response_goes_unwatched() -> None:
    """
    Fault 6: the application may set its cookie in a response to somebody who has ours.
    """
    rig = Rig("cookie:session")
    assert not rig.begin((b"cookie", b"session=" + SIGNER.mint(2).encode())).unremarkable
    other = Rig("cookie:stickyd")
    assert other.begin((b"cookie", b"stickyd=" + SIGNER.mint(2).encode())).unremarkable


FOREIGN = b"stickyd=" + OTHER.mint(2).encode()
VALID = b"stickyd=" + SIGNER.mint(2).encode()


@pytest.mark.parametrize(
    "fields",
    [
        [FOREIGN + b"; " + VALID],
        [VALID + b"; " + FOREIGN],
        [b"stickyd=; " + VALID],
        [b"stickyd=garbage; " + FOREIGN + b"; " + VALID],
        [FOREIGN, VALID],
        [VALID, FOREIGN],
        [b"a=b", FOREIGN, b"c=d", VALID],
        [VALID + b"~" + FOREIGN.partition(b"=")[2]],
        [FOREIGN + b"~" + VALID.partition(b"=")[2]],
    ],
)
def test_fault_4_the_cookie_that_verifies_counts(fields: list[bytes]) -> None:
    """
    Fault 4: of several cookies of our name, in one field or in several, as HTTP/2 sends them.
    """
    exchange = Rig("cookie:stickyd").begin(*((b"cookie", field) for field in fields))
    assert set_by(exchange.respond([])) == []


def test_fault_5_two_deployments_share_a_cookie() -> None:
    """
    Fault 5: a browser has one cookie of a name for all ports of a host.  Each deployment keeps
    what the others have put into it, so after one visit to each nothing changes any more.
    """
    ours, theirs = Rig("cookie:stickyd"), Rig("cookie:stickyd", signer=OTHER)
    theirs.slot = 5
    jar: list[tuple[bytes, bytes]] = []
    given = []
    for rig in (ours, theirs) * 3:
        cookies = set_by(rig.begin(*jar).respond([]))
        given.append(len(cookies))
        if cookies:
            jar = [(b"cookie", cookies[0].partition(b";")[0])]
    assert given == [1, 1, 0, 0, 0, 0]
    value = jar[0][1].partition(b"=")[2]
    assert (SIGNER.slot_of(value), OTHER.slot_of(value)) == (2, 5)


@pytest.mark.parametrize(
    ("control", "wanted"),
    [
        (b"public, max-age=60", False),
        (b"S-MaxAge=5", False),
        (b"private", True),
        (b"no-store", True),
        (b"public\nmax-age=60", False),
        (b"max-age=60\npublic", False),
        (b"s-maxage=9\nprivate\nmax-age=0", False),
        (b"private\nmax-age=60", True),
    ],
)
def test_cookie_stays_out_of_shared_caches(control: bytes, wanted: bool) -> None:
    """
    A response that a cache may give to others brings no cookie; fault 8: whichever of several
    lines says so.
    """
    lines = [(b"Cache-Control", line) for line in control.split(b"\n")]
    fields = Rig("cookie:stickyd").begin().respond(lines)
    assert bool(set_by(fields)) == wanted


@pytest.mark.parametrize(
    ("attributes", "secure", "text"),
    [
        (CookieAttributes(), True, "Path=/; Secure; HttpOnly; SameSite=Lax"),
        (CookieAttributes(secure="never"), True, "Path=/; HttpOnly; SameSite=Lax"),
        (CookieAttributes(secure="always"), False, "Path=/; Secure; HttpOnly; SameSite=Lax"),
        (
            CookieAttributes("/x", "example.com", "strict", max_age=60),
            False,
            "Path=/x; Domain=example.com; Max-Age=60; HttpOnly; SameSite=Strict",
        ),
    ],
)
def test_attributes_of_the_cookie(attributes: CookieAttributes, secure: bool, text: str) -> None:
    """
    They are the operator's; ``Secure`` depends on the connection unless they say otherwise.
    """
    exchange = Rig("cookie:stickyd", attributes).begin(secure=secure)
    (value,) = set_by(exchange.respond([]))
    assert value.partition(b"; ")[2].decode() == text


def test_spare_gives_no_cookie() -> None:
    """
    A worker without a slot has nothing to name.
    """
    rig = Rig("cookie:stickyd")
    rig.slot = -1
    assert rig.begin().respond([]) == []


def test_nothing_is_added_without_the_entry() -> None:
    """
    Without ``cookie`` in the list there is none.
    """
    assert Rig("header:X-User,ip").begin().respond([(b"A", b"b")]) == [(b"A", b"b")]


def test_stamp_goes_on_and_comes_off() -> None:
    """
    What goes out in a stamped header comes back to the application as it was; other
    fields are nobody's business.
    """
    rig = Rig("stamp:X-Id")
    ((name, value), other) = rig.begin().respond([(b"X-ID", b"id 1"), (b"X-Other", b"id 1")])
    assert (name, other) == (b"X-ID", (b"X-Other", b"id 1"))
    assert SIGNER.unstamp(value) == (b"id 1", 2)
    fields = [(b"host", b"h"), (b"x-id", value), (b"x-other", value)]
    assert rig.begin(*fields).pairs == [(b"host", b"h"), (b"x-id", b"id 1"), (b"x-other", value)]


def test_id_without_a_stamp_of_ours_stays() -> None:
    """
    A forged or bare id reaches the application as it came, for it to refuse.
    """
    rig = Rig("stamp:X-Id")
    for value in (b"bare", OTHER.stamp(b"id", 2), b""):
        assert rig.begin((b"x-id", value)).pairs == [(b"x-id", value)]


def test_minted_ids_are_claimed() -> None:
    """
    Ids in the headers and cookies of the entries are claimed, and the response is to wait.
    """
    rig = Rig("learn:header:X-Id,learn:cookie:sid,learn:query:q")
    exchange = rig.begin()
    fields = [
        (b"x-id", b"abc"),
        (b"Set-Cookie", b'sid="def"; Path=/'),
        (b"set-cookie", b"other=ghi"),
    ]
    assert exchange.respond(fields) == fields
    assert rig.claimed == [
        [learned_id(HeaderKey("X-Id"), b"abc"), learned_id(CookieKey("sid"), b"def")]
    ]
    assert exchange.claiming is rig.answer


def test_nothing_minted_waits_for_nothing() -> None:
    """
    A response without ids, or with the removal of one, leaves at once.
    """
    rig = Rig("learn:header:X-Id,learn:cookie:sid")
    exchange = rig.begin()
    exchange.respond([(b"A", b"b"), (b"Set-Cookie", b"sid=; Max-Age=0")])
    assert (rig.claimed, exchange.claiming) == ([], None)


@pytest.mark.parametrize(
    ("host", "secure", "fields", "client", "spoken"),
    [
        (PROXY, False, [(b"x-forwarded-for", b"192.0.2.1, 10.9.9.9")], "192.0.2.1", False),
        (PROXY, False, [(b"x-forwarded-proto", b"https")], None, True),
        (PROXY, True, [(b"x-forwarded-proto", b"http")], None, False),
        (PROXY, True, [], None, True),
        (PROXY, False, [(b"forwarded", b"for=192.0.2.2;proto=https")], "192.0.2.2", True),
        ("", False, [(b"x-forwarded-for", b"2001:db8::1")], "2001:db8::1", False),
        (CLIENT, False, [(b"x-forwarded-for", b"192.0.2.1")], None, False),
        (CLIENT, True, [(b"x-forwarded-proto", b"http")], None, True),
    ],
)
def test_what_a_proxy_says(
    host: str, secure: bool, fields: Any, client: str | None, spoken: bool
) -> None:
    """
    A trusted peer tells who the client is and what it speaks; nobody else does.
    """
    exchange = Rig("ip").begin(*fields, host=host, secure=secure)
    assert (exchange.client, exchange.secure) == (client, spoken)


@pytest.mark.parametrize(
    ("entries", "trust", "needed"),
    [
        ("ip", "", False),
        ("header:X-User,ip", "", False),
        ("ip", "10.0.0.0/8", True),
        ("cookie:a", "", True),
        ("stamp:X", "", True),
        ("learn:header:X", "", True),
        ("learn:query:q", "", True),
    ],
)
def test_nothing_is_received_for_nothing(entries: str, trust: str, needed: bool) -> None:
    """
    Where nothing is to be done, it is not done to every request.
    """
    stickiness = Stickiness(
        parse_affinity(entries), None, lambda: 0, lambda _: None, Networks.parse(trust)
    )
    assert stickiness.needed == needed


def test_knows_whose_token_names_our_slot() -> None:
    """
    Only a cookie that was signed for this slot says that its client belongs here.
    """
    signer = Signer([b"0123456789abcdef"])
    stickiness = Stickiness(
        parse_affinity(["cookie:stickyd"]), signer, lambda: 1, lambda ids: None, Networks()
    )

    def names(*values: str) -> bool:
        cookie = "; ".join(f"stickyd={value}" for value in values).encode()
        pairs = [(b"cookie", cookie)] if values else []
        return stickiness.begin("127.0.0.1", False, pairs).names_our_slot

    assert not names()
    assert names(signer.mint(1))
    assert names(signer.mint(0), signer.mint(1))
    assert not names(signer.mint(0))
    assert not names(signer.mint(1) + "x")


def test_tokens_name_the_generation_where_workers_keep_their_clients() -> None:
    """
    A cookie of another generation is replaced, and whoever gets a token is known by it; the field
    that was asked for says which generation has answered.
    """
    signer = Signer([b"0123456789abcdef"])
    met: list[bytes] = []

    def meet(client: bytes) -> bytes:
        met.append(client)
        return b"t" + client

    marks = GenerationMarks(lambda: 7, meet, b"X-Generation", lambda: b"1.4.2")
    stickiness = Stickiness(
        *(parse_affinity(["cookie:stickyd", "stamp:X-Id"]), signer, lambda: 1, lambda ids: None),
        Networks(),
        marks=marks,
    )
    for generation, is_named in ((7, True), (6, False), (0, False)):
        cookie = b"stickyd=" + signer.mint(1, generation=generation).encode()
        exchange = stickiness.begin("127.0.0.1", False, [(b"cookie", cookie)])
        assert exchange.names_our_slot is is_named
        fields = exchange.respond([(b"X-Id", b"minted")])
        assert exchange.met == b"t" + met[-1]
        assert (b"X-Generation", b"1.4.2") in fields
        stamped = signer.named_by_stamp(dict(fields)[b"X-Id"])
        assert stamped == (1, 7, b"minted")
        (fresh,) = set_by(fields) or (b"",)
        named = signer.named_by(fresh.partition(b"=")[2].partition(b";")[0])
        assert (named is None) is is_named
        if named is not None:
            assert named[:2] == (1, 7)
            assert met.pop() == named.client
        assert met.pop() == b"minted"
    assert not met


def test_cookie_says_what_the_client_is_known_by() -> None:
    """
    A client that is given a new cookie is told by the same in it, if that can stand in one.
    """
    rig = Rig("cookie:stickyd")
    for mark, kept in (
        (b"tabcdefghijkl_-09", True),
        (b"ti.d-of-the-appli", False),
        (b"t", False),
        (None, False),
    ):
        (cookie,) = set_by(rig.begin().respond([], mark))
        named = SIGNER.named_by(cookie.partition(b"=")[2].partition(b";")[0])
        assert named is not None
        assert (named.client == (mark or b"")[1:]) == kept
