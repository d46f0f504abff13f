"""
Which clients belong to this worker, and what tells each of the others where it belongs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.affinity.resolve import Resolver
from stickyd.affinity.token import Signer
from stickyd.serve.stickiness import CookieAttributes, Stickiness
from stickyd.worker.claims import RENEWAL_SECONDS, OwnIds, OwnKeys
from stickyd.worker.routing import Rehoming
from stickyd.worker.slot_map import SlotMap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred

    from stickyd.serve.http.context import Route
    from stickyd.settings import Settings
    from stickyd.worker.outbox import Outbox


class ClientHomes:
    """
    The slots as the worker knows them, the ids that its application has given out, the tokens
    that it signs and verifies, and the routing of requests by all of these.

    :ivar places: the slots.
    :ivar own_ids: the ids.
    :ivar stickiness: puts tokens on responses and takes them off requests; None if nothing has
        to be done to either.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        slot: int,
        secrets: Sequence[bytes],
        send_claims: Callable[[list[bytes]], Deferred[object]],
        outbox: Outbox,
    ) -> None:
        """
        :param slot: the worker's own; -1 for a spare.
        :param secrets: what signs (the first) and verifies tokens; none if there are none.
        :param outbox: where requests go that belong elsewhere.
        """
        self.places = SlotMap(slot, settings.placement)
        self.own_ids = OwnIds(
            reactor, settings.keys, send_claims, min(RENEWAL_SECONDS, settings.learn_timeout / 4)
        )
        self._signer = Signer(secrets, node=settings.node) if secrets else None
        stickiness = self._make_stickiness(settings)
        self.stickiness = stickiness if stickiness.needed else None
        self._resolver = Resolver(
            settings.keys, self._signer, self.places.is_available, settings.networks
        )
        self._rehoming = Rehoming(
            self._resolver,
            self.places,
            self.own_ids,
            OwnKeys(reactor),
            outbox,
            settings.networks,
        )

    def _make_stickiness(self, settings: Settings) -> Stickiness:
        cookie = CookieAttributes(
            settings.cookie_path,
            settings.cookie_domain,
            settings.cookie_samesite,
            settings.cookie_secure,
            settings.cookie_max_age,
        )
        return Stickiness(
            settings.keys,
            self._signer,
            lambda: self.places.slot,
            self.own_ids.claim,
            settings.networks,
            cookie,
        )

    @property
    def route(self) -> Route | None:
        """
        What is asked of each request where it belongs; None if that never differs from where its
        connection does.
        """
        return self._rehoming.route if self._rehoming.needed else None

    @property
    def tokens_refused(self) -> int:
        """
        How many tokens were not signed by us.
        """
        return self._resolver.refused.total()

    def verify_also(self, secrets: Sequence[bytes]) -> None:
        """
        Take tokens for good that are signed with these secrets; we go on signing with our own.
        """
        if self._signer is not None:  # else no token tells anybody where it belongs
            self._signer.verify_also(secrets)

    def pause(self) -> None:
        """
        Serve every request here from now on: there is nowhere else to go.
        """
        self._rehoming.pause()
