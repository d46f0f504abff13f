"""
Ids that are this worker's.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stickyd.affinity.keys import CookieKey, QueryKey
from stickyd.affinity.resolve import learned_id
from stickyd.affinity.spec import parse_affinity
from stickyd.worker.claims import PATIENCE_SECONDS, RENEWAL_SECONDS, OwnIds, OwnKeys

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


class Rig:
    """
    Own ids, and a primary that answers when the test says.
    """

    def __init__(self, entries: str = "learn:query:sid", most: int = 100) -> None:
        self.clock = Clock()
        self.told: list[list[bytes]] = []
        self.answers: list[Deferred[object]] = []
        self.ids = OwnIds(self.clock, parse_affinity(entries), self._send, most=most)

    def _send(self, identifiers: list[bytes]) -> Deferred[object]:
        self.told.append(identifiers)
        self.answers.append(Deferred())
        return self.answers[-1]

    def claim(self, *identifiers: bytes) -> list[str]:
        """
        Claim; the list that is returned says ``done`` when the response may leave.
        """
        said: list[str] = []
        waiting = self.ids.claim(list(identifiers))
        if waiting is None:
            return ["at once"]
        waiting.addCallback(lambda _: said.append("done"))
        return said


def test_claim_waits_for_the_primary() -> None:
    """
    A new id is told, is ours at once, and is waited for until the primary knows.
    """
    rig = Rig()
    said = rig.claim(A, B)
    assert rig.told == [[A, B]]
    assert A in rig.ids
    assert C not in rig.ids
    assert said == []
    rig.answers[0].callback({})
    assert said == ["done"]


def test_known_id_is_not_claimed_again() -> None:
    """
    Who claims an id that the primary knows does not wait; who does so before it has
    answered waits for the same answer.
    """
    rig = Rig()
    first, second = rig.claim(A), rig.claim(A)
    mixed = rig.claim(A, B)
    assert rig.told == [[A], [B]]
    rig.answers[0].callback({})
    assert (first, second, mixed) == (["done"], ["done"], [])
    assert rig.claim(A) == ["at once"]
    rig.answers[1].callback({})
    assert mixed == ["done"]


def test_primary_that_does_not_answer_holds_nobody_up() -> None:
    """
    After a while, or an error, the response leaves without it.
    """
    rig = Rig()
    silent, failed = rig.claim(A), rig.claim(B)
    rig.answers[1].errback(OSError("gone"))
    assert failed == ["done"]
    rig.clock.advance(PATIENCE_SECONDS - 0.1)
    assert silent == []
    rig.clock.advance(0.2)
    assert silent == ["done"]


def test_id_in_use_is_claimed_again_in_time() -> None:
    """
    The primary sees no requests on open connections, so it is told now and then.
    """
    rig = Rig()
    rig.claim(A)
    rig.answers[0].callback({})
    rig.clock.advance(RENEWAL_SECONDS - 1)
    rig.ids.used(A)
    assert len(rig.told) == 1
    rig.clock.advance(2)
    rig.ids.used(A)
    rig.ids.used(A)
    assert rig.told == [[A], [A]]


def test_id_that_the_primary_has_sent_is_ours() -> None:
    """
    It need not be claimed to be served here, and is not claimed for being used; but when
    the application names it, it is.
    """
    rig = Rig()
    rig.ids.add(A)
    assert A in rig.ids
    rig.clock.advance(10 * RENEWAL_SECONDS)
    rig.ids.used(A)
    assert rig.told == []
    rig.claim(A)
    assert rig.told == [[A]]
    rig.ids.add(A)
    assert rig.claim(A) == []


def test_longest_unused_is_forgotten() -> None:
    """
    There is a bound; use keeps an id.
    """
    rig = Rig(most=2)
    rig.ids.add(A)
    rig.ids.add(B)
    rig.ids.used(A)
    rig.ids.add(C)
    assert A in rig.ids
    assert B not in rig.ids


def test_value_is_claimed_wherever_clients_may_send_it() -> None:
    """
    The application knows the value alone; the entries say where it will stand.
    """
    rig = Rig("learn:query:sid,learn:cookie:id,ip")
    waiting = rig.ids.claim_value(b"v")
    assert waiting is not None
    assert rig.told == [[learned_id(QueryKey("sid"), b"v"), learned_id(CookieKey("id"), b"v")]]


def test_value_that_no_entry_reads() -> None:
    """
    Without an entry there is nothing to tell, nor to wait for.
    """
    rig = Rig("ip")
    assert rig.ids.claim_value(b"v") is None
    assert rig.told == []


def test_own_keys_are_forgotten() -> None:
    """
    A key is ours for a while after the primary has sent us its client, and within a bound.
    """
    clock = Clock()
    keys = OwnKeys(clock, most=2)
    for key in (A, B, C):
        keys.add(key)
    assert A not in keys
    assert B in keys
    clock.advance(RENEWAL_SECONDS + 1)
    assert B not in keys
