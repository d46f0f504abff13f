"""
Which clients belong to this worker, and what tells each of the others where it belongs.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import succeed

from stickyd.affinity.resolve import Resolver
from stickyd.affinity.token import Signer
from stickyd.serve.stickiness import CookieAttributes, GenerationMarks, Stickiness
from stickyd.worker.claims import RENEWAL_SECONDS, OwnIds, OwnKeys
from stickyd.worker.known_clients import ID, TOKEN, KnownClients
from stickyd.worker.routing import Rehoming
from stickyd.worker.slot_map import SlotMap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred

    from stickyd.serve.http.context import Route
    from stickyd.settings import Settings
    from stickyd.worker.keys import WorkerKeys
    from stickyd.worker.known_clients import Tell
    from stickyd.worker.outbox import Outbox


class ClientHomes:
    """
    The slots as the worker knows them, the ids that its application has given out, the tokens
    that it signs and verifies, and the routing of requests by all of these.

    :ivar places: the slots.
    :ivar own_ids: the ids.
    :ivar known: the clients, if they are kept when this worker is relieved; else None.
    :ivar stickiness: puts tokens on responses and takes them off requests; None if nothing has
        to be done to either.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        slot: int,
        keys: WorkerKeys,
        send_claims: Callable[[list[bytes]], Deferred[object]],
        send_known: Tell,
        outbox: Outbox,
    ) -> None:
        """
        :param slot: the worker's own; -1 for a spare.
        :param keys: what signs and verifies tokens, and the worker's generation.
        :param outbox: where requests go that belong elsewhere.
        """
        self.places = SlotMap(slot, settings.placement)
        self._keeps = settings.reload_mode == "client"
        self._occupy(keys.generation)
        self.known: KnownClients | None = None
        if self._keeps:
            self.known = KnownClients(
                reactor, settings.keys, settings.client_idle, settings.known_limit, send_known
            )
        renewal = min(RENEWAL_SECONDS, settings.learn_timeout / 4)
        self.own_ids = OwnIds(
            reactor, settings.keys, send_claims, renewal, minted=partial(self._met, ID)
        )
        self._signer = (
            Signer(keys.tokens, node=settings.node, run=keys.run) if keys.tokens else None
        )
        stickiness = self._make_stickiness(settings)
        self.stickiness = stickiness if stickiness.needed else None
        self._resolver = Resolver(
            *(settings.keys, self._signer, self.places.is_available, settings.networks),
            keeping=self.places,
        )
        self._rehoming = Rehoming(
            self._resolver,
            self.places,
            self.own_ids,
            OwnKeys(reactor),
            outbox,
            settings.networks,
            self.known,
            self._new_mark,
        )

    def _new_mark(self) -> bytes | None:
        signer, stickiness = self._signer, self.stickiness
        if self.known is None or signer is None or stickiness is None:
            return None
        # None is set any more where the application has a cookie of that name.
        return TOKEN + signer.new_id() if stickiness.sets_cookie else None

    def _occupy(self, generation: int) -> None:
        # Tokens name the generation only where that leads anywhere.
        self.places.occupy_as(generation if self._keeps else 0)
        self._generation = generation

    def _met(self, kind: bytes, client: bytes) -> bytes | None:
        """
        Know a client that has just been told what it is known by.

        :return: its mark, if clients are known.
        """
        if self.known is None:
            return None
        mark = kind + client
        self.known.add(mark)
        return mark

    def occupy(self, slot: int, generation: int) -> None:
        """
        Take a slot, as a spare.
        """
        self._occupy(generation)
        self.places.occupy(slot)

    def keep(self, slots: int, available: Sequence[int]) -> Deferred[None]:
        """
        Keep the clients that are known, and tell the primary who they are.

        :param slots: how many there are from now on; 0 if a successor gets our newcomers.
        :param available: those of them that are available.
        :return: fires when the primary knows.
        """
        if self.known is None:
            return succeed(None)
        own = self.places.slot
        is_relieved = own not in available
        slot_of = (lambda key: -1) if is_relieved else self.places.placement(slots, available)
        self.places.look_again()
        return self.known.keep(is_relieved, lambda key: slot_of(key) != own)

    def give_away(self) -> None:
        """
        Keep nobody any more.
        """
        if self.known is not None:
            self.known.forget_all()
            self.places.look_again()

    def stay(self) -> None:
        """
        Have all newcomers after all.
        """
        if self.known is not None:
            self.known.stay()
            self.places.look_again()

    def release_client(self, mark: bytes) -> None:
        """
        Know a client no longer; see :func:`stickyd.release_client`.
        """
        if self.known is not None:
            self.known.release(mark)
            self.places.look_again()

    def note_session(self, mark: bytes, is_there: bool) -> None:
        """
        Take note of a client's session; see :meth:`KnownClients.note_session`.
        """
        if self.known is not None:
            self.known.note_session(mark, is_there)
            if not is_there:
                self.places.look_again()

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
            GenerationMarks(
                lambda: self.places.generation,
                partial(self._met, TOKEN),
                settings.generation_header.encode(),
                lambda: (settings.generation_name or str(self._generation)).encode(),
            ),
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
