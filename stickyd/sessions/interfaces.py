"""
What an application keeps in a session, and where sessions are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twisted.internet.defer import Deferred

    from stickyd.sessions.record import EndReason, SessionRecord


class ISessionStore(Interface):
    """
    Keeps session records.  Of the contents of a record it reads only what stands in
    the record's own fields; ``data`` is opaque bytes.

    Operations on one session take effect in the order in which they were called,
    also while the Deferreds of the earlier ones have not fired.  Any Deferred may
    also fail with :exc:`stickyd.errors.StoreAway`, or an error of the store's own; then
    nothing is known about what became of the operation, and it may be repeated.

    A store that outlives the process keeps no ids, but what :func:`hidden_id
    <stickyd.sessions.record.hidden_id>` makes of them.  What it tells of its own accord, by
    :meth:`observe` and :meth:`ICarriedStore.enumerate`, may then have such a
    :class:`stickyd.sessions.record.HiddenId` for an id, and each of its methods takes one for
    the id too.  A record that is loaded or saved has the id that was asked for.

    A record that such a store cannot read is kept, counted and logged, and there is none as
    far as anybody can see.
    """

    immediate: bool = Attribute(
        """
        Whether every Deferred has fired when it is returned, so that a session can be looked
        up in the middle of a request.
        """
    )

    def start(slot: int) -> Deferred[None]:
        """
        Open the store, before anything else is asked of it but :meth:`observe`.

        :param slot: the slot of this worker.
        :return: fires when it can be used; fails with :exc:`stickyd.errors.OperatorError` if
            it cannot be had as it is: the message is one line and says what to do.
        """

    def stop() -> Deferred[None]:
        """
        Finish what was asked for, and close.

        :return: fires when it is closed.  From then on all fails with
            :exc:`stickyd.errors.StoreAway`.
        """

    def check() -> Deferred[list[str]]:
        """
        Look for what an operator should know of a store that has started, such as a setting of
        a server by which sessions are lost.

        :return: fires with one line for each.
        """

    def observe(callback: Callable[[bytes, EndReason], object]) -> None:
        """
        Be told of each session that is not here any more otherwise than by this process's own
        :meth:`delete`: its id and whether it expired, was evicted or has moved; or
        what others did to it, where the store can know: ``DELETED``, or ``SUPERSEDED`` if
        they have written it.  When ``callback`` is called the record is as it says already.
        A store that others use too tells at least of those sessions that this process loaded
        or saved; that one is over it tells at the latest in this process's own :meth:`expire`.
        """

    def load(uid: bytes) -> Deferred[SessionRecord | None]:
        """
        Look a session up.  This is not a use of it: its times stay.

        :return: fires with the record, or with :obj:`None` if there is none, be it
            that it never was or that it is over.  For an id that is an alias it is the
            record of the session that has another id now, under that id or its
            :class:`stickyd.sessions.record.HiddenId`.  Fails with
            :exc:`stickyd.errors.SessionMoved` if it has moved.
        """

    def version(uid: bytes) -> Deferred[int | None]:
        """
        Tell which version is stored, for less than a :meth:`load` costs.

        :return: fires with it; with :obj:`None` if there is none, it is over, or ``uid`` is an
            alias.  Fails as :meth:`load`.
        """

    def save(record: SessionRecord, nonce: bytes = b"") -> Deferred[SessionRecord]:
        """
        Write a session, if nobody else has written it meanwhile.

        :param record: its ``version`` is the version that was loaded, or 0 for a
            session that was never stored.
        :param nonce: names this write, in up to 16 bytes, and is used for no other.  If the
            stored version is the next one, and was written with this nonce, the write is
            done already: its answer was lost.  The empty one names none.
        :return: fires with the record as stored, once it is as durable as the store
            makes it: with the next version, and ``touched`` the later of what was
            given and what was stored.  Fails, with nothing changed, with
            :exc:`stickyd.errors.SessionConflict` if the stored version is another
            (for version 0: if there is one at all) or the id is an alias,
            :exc:`stickyd.errors.NoSuchSession` if the version is not 0 and there is
            none or it is over, :exc:`stickyd.errors.SessionMoved` if it has moved,
            :exc:`stickyd.errors.SessionTooLarge` if the store cannot hold it even alone.
        """

    def touch(uid: bytes) -> Deferred[bool]:
        """
        Note that a session was used now.  Its version stays.

        :return: fires with :obj:`True`; with :obj:`False` if there is none, it is over, it is
            an alias, or it has moved.
        """

    def delete(uid: bytes) -> Deferred[bool]:
        """
        Remove a session for good.  Of an alias, that is the session that it finds, and the
        alias.

        :return: fires with whether there was one.
        """

    def alias(old: bytes, version: int, new: bytes, seconds: float) -> Deferred[bool]:
        """
        Have ``old`` find the session ``new`` for a while, in place of its own record, which is
        removed.  May be repeated.  Aliases of aliases are followed.

        :param old: the id that a session had.
        :param version: its version there.
        :param new: its id from now on, under which it was saved already.
        :param seconds: for how long, more than 0.
        :return: fires with :obj:`True` when it does; with :obj:`False` if there is no ``old``,
            it is over, or it has moved.  Fails with :exc:`stickyd.errors.SessionConflict` if
            another version of it is stored, or it is an alias of something else.
        """

    def expire(limit: int) -> Deferred[bool]:
        """
        Remove sessions that are over.  Called now and then: until it was, one that is
        over still takes its place, but no other method lets it be seen.

        :param limit: look at no more sessions than this, so that nobody waits for long.
        :return: fires with whether there is more to do: then call again soon.
        """


class ICarriedStore(ISessionStore):
    """
    A store of one worker alone, whose sessions must be carried when their clients go to
    another worker.  What is no such store is seen by every worker, and nothing is carried.

    An alias is carried as a session is.
    """

    def enumerate(limit: int) -> Iterator[Deferred[list[SessionRecord]]]:
        """
        Walk over all sessions.  Take the next Deferred only when the one before has
        fired.  Each session that is there throughout comes at least once; one that
        comes or goes meanwhile may be left out.

        :param limit: at most so many records at a time.
        :return: Deferreds that fire with batches, in no order.
        """

    def move(uid: bytes) -> Deferred[SessionRecord | None]:
        """
        Take a session out, to be carried to another store.  From now on it is known
        here as moved, until its record would have been over, :meth:`adopt` brings it
        back, or the store must forget the oldest moves for want of room.

        A store that outlives the process forgets nothing by that: until :meth:`moved` was
        called, the next process that opens it finds the session as any other.

        :return: fires with the record as it stands, or with :obj:`None` if there is
            none, it is over, or it has moved already.
        """

    def moved(uid: bytes) -> Deferred[None]:
        """
        Note that another store has a session that was taken out.

        :return: fires when that is as durable as the store makes it.
        """

    def adopt(record: SessionRecord) -> Deferred[bool]:
        """
        Take in a session that was moved out of another store: with the same id,
        version, times and data.

        :return: fires with :obj:`True` if the record is now stored; with :obj:`False` if
            it is over, and then an earlier version of it is removed; or if this version or a
            later one is here already.  So it may be repeated.  Fails with
            :exc:`stickyd.errors.SessionTooLarge` as :meth:`save`.
        """


class ISlotStore(ICarriedStore):
    """
    A store that belongs to a slot, and outlives its worker: the next worker of the slot opens
    it when this one has ended, or has handed it over.  Between slots its sessions are carried.
    """

    def hand_over(
        keep: Iterable[bytes], forward: Callable[[SessionRecord], Deferred[None]]
    ) -> Deferred[None]:
        """
        Leave everything to the next worker of the slot.

        From now on this process has the sessions of ``keep`` alone, and those that it makes;
        all others are known as moved.  A change of one of them is done when the next worker
        has it.

        :param keep: the ids of sessions that are still in use here.
        :param forward: called with each record that has changed here; one that is over already
            stands for a session that was removed.  Fires when the next worker has it.
        :return: fires when the next worker can open the store.
        """

    def take_back() -> None:
        """
        Go on with everything, as the next worker has died.
        """

    def claim_leftovers(slots: int) -> Deferred[int]:
        """
        Take in the sessions of slots that there are not any more.

        :param slots: how many there are; each takes its share.
        :return: fires with how many sessions it were.
        """


class ICarriable(Interface):
    """
    A component of a session that goes along when the session is stored or carried to another
    worker.  An adapter that is registered for a session provides it, or can be adapted to it.
    """

    def to_plain() -> Any:
        """
        Give what it is made of: plain data, see :class:`ISessionData`.  Called whenever the
        session is saved.
        """

    def from_plain(data: Any) -> None:
        """
        Be again what gave this.  Called once, right after it was made.
        """


class ISessionData(Interface):
    """
    The part of a session that is carried when the session goes to another worker: a
    mutable mapping of strings to plain data.  ``ISessionData(session)`` and
    ``request.getSession(ISessionData)`` give it.

    Plain data is :obj:`None`, :class:`bool`, :class:`int`, :class:`float`,
    :class:`str`, :class:`bytes`, and :class:`list`, :class:`tuple` and :class:`dict` (with
    :class:`str` keys) of plain data.  Anything else is refused with
    :exc:`stickyd.errors.NotCarriable`, subclasses of these types too: they would arrive as
    their base.  Data that grows too large is refused with
    :exc:`stickyd.errors.SessionTooLarge`.

    A value is checked and *copied* when it is stored, so ``data["cart"] = cart`` does not
    tie the session to ``cart``.  What ``data["cart"]`` gives is the session's
    own: ``data["cart"].append(item)`` changes the session.  Such a change inside
    a value is checked when the session is saved, which is before the first byte of
    the response; if it is refused, the request fails, and the session's data is again
    what was saved last.
    """

    def __getitem__(key: str) -> Any:
        """
        :raise KeyError: if there is no such key.
        """

    def __setitem__(key: str, value: Any) -> None:
        """
        Check and copy ``value``, and store it.

        :raise stickyd.errors.NotCarriable: with the path of the part that is not plain
            data; nothing has changed.
        :raise stickyd.errors.SessionTooLarge: nothing has changed.
        :raise stickyd.errors.SessionMoved: the session is another worker's now.
        """

    def __delitem__(key: str) -> None:
        """
        :raise KeyError: if there is no such key.
        :raise stickyd.errors.SessionMoved: the session is another worker's now.
        """

    def __iter__() -> Iterator[str]:
        """
        The keys, in the order in which they were first stored.
        """

    def __len__() -> int:
        """
        How many keys there are.
        """
