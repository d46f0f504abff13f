"""
Making the store that ``--sessions`` names.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stickyd.errors import SettingError
from stickyd.sessions.interfaces import ICarriedStore
from stickyd.sessions.stores.standby import StandbyStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from stickyd.sessions.interfaces import ISessionStore
    from stickyd.settings.session_url import SessionUrl


@dataclass(frozen=True)
class StoreContext:
    """
    What a store is made with.

    :ivar reactor: the worker's.
    :ivar clock: ``seconds()`` gives seconds since 1970, and its timers are the reactor's.
    :ivar max_count: the most sessions that a worker keeps in its memory.
    :ivar max_bytes: the most bytes of them.
    :ivar grace_seconds: for how long a store that is away is asked again, before an operation
        fails with :exc:`stickyd.errors.StoreAway`.
    :ivar away_in_memory: whether sessions go on in memory then.
    :ivar keys: the secrets that encrypt records, the first also new ones; none if there are none.
    """

    reactor: Any
    clock: IReactorTime
    max_count: int = 100_000
    max_bytes: int = 256 * 1024 * 1024
    grace_seconds: float = 10.0
    away_in_memory: bool = False
    keys: tuple[bytes, ...] = ()


def open_store(url: SessionUrl, context: StoreContext) -> ISessionStore:
    """
    Make a store.  It is started later, by its ``start``.

    :raises SettingError: if the URL means nothing to the store, or a package is missing.
    """
    module, _, name = url.factory.partition(":")
    try:
        factory: Callable[[SessionUrl, StoreContext], ISessionStore] = getattr(
            import_module(module), name
        )
    except (ImportError, AttributeError) as problem:
        raise SettingError(f"--sessions {url.shown}: its store cannot be had: {problem}") from None
    store = factory(url, context)
    if not context.away_in_memory:
        return store
    if ICarriedStore.providedBy(store):
        raise SettingError(
            f"--session-away memory means nothing to {url.scheme}, which has no server to wait"
            " for; leave it out"
        )
    return StandbyStore(store, context.clock, context.max_count)
