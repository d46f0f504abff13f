"""
Changing the secrets that sign tokens while clients hold tokens and requests come in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import DeferredList

from stickyd.affinity.token import merged

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from stickyd.affinity.token import Signer
    from stickyd.fleet.fleet import Fleet
    from stickyd.fleet.process.spawner import Spawner
    from stickyd.settings import Settings
    from stickyd.system.secrets import Secrets

#: Seconds that a reload waits for workers to learn what tokens are going to be signed with.
ANNOUNCE_SECONDS = 10.0


class SecretRotation:
    """
    Has the primary and all workers go over to other secrets.

    First all of them verify with both (:meth:`announce`), then fresh workers sign with the new
    ones, and when no worker signs with the former any more, those are dropped
    (:meth:`complete`).
    """

    def __init__(
        self,
        clock: IReactorTime,
        secrets: Secrets,
        signer: Signer,
        spawner: Spawner,
        fleet: Fleet,
    ) -> None:
        """
        :param signer: the primary's.
        """
        self._clock = clock
        self._secrets = secrets
        self._signer = signer
        self._spawner = spawner
        self._fleet = fleet

    @property
    def run(self) -> str:
        """
        See :attr:`stickyd.system.secrets.Secrets.run`.
        """
        return self._secrets.run

    def secrets_of(self, settings: Settings) -> tuple[bytes, ...]:
        """
        Read the secrets that settings ask for; see :meth:`stickyd.system.secrets.Secrets.of`.

        :raises SettingError: if they cannot be had.
        """
        return self._secrets.of(settings)

    def announce(self, secrets: tuple[bytes, ...]) -> Deferred[None]:
        """
        Have the primary and every worker verify tokens with these secrets too: before anybody
        signs with them, as a client's next request may reach any of them.

        :return: fires when all do, or after :data:`ANNOUNCE_SECONDS`: a worker that does not
            answer for so long is about to be ended for it.
        """
        self._signer.replace(merged(self._spawner.spec.secrets, secrets))
        told = [*self._spawner.verify_also(secrets), *self._fleet.verify_also(secrets)]
        all_told: Deferred[Any] = DeferredList(told)
        all_told.addTimeout(ANNOUNCE_SECONDS, self._clock)
        return all_told.addBoth(lambda _: None)

    def complete(self, secrets: tuple[bytes, ...]) -> None:
        """
        Have the primary accept no tokens but by these secrets: every worker signs with them.
        """
        self._signer.replace(secrets)
