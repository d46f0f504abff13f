"""
A canary: new code for newcomers of some slots, until an operator goes on or back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stickyd.errors import SettingError
from stickyd.fleet.process.spawner import worker_command
from stickyd.fleet.process.spec import WorkerSpec
from stickyd.settings import Settings
from stickyd.settings.reload import fixed

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Canary:
    """
    A reload of some slots, which may be taken back.

    :ivar former: what workers were started with before.
    :ivar slots: the slots that have fresh workers.
    :ivar generation: that of these.
    :ivar is_inherited: whether the primary has replaced its own code since: to go on is to replace
        every worker then.
    """

    former: WorkerSpec
    slots: range
    generation: int
    is_inherited: bool = False

    @property
    def shown(self) -> str:
        """
        The slots, for a line of the log.
        """
        return "slot 0" if len(self.slots) == 1 else f"slots 0 to {self.slots[-1]}"

    def dump_state(self) -> dict[str, Any]:
        """
        The canary as JSON can carry it, for a primary that replaces itself.
        """
        former = self.former
        return {
            "slots": len(self.slots),
            "generation": self.generation,
            "settings": former.settings.to_json(),
            "uid": former.uid,
            "gid": former.gid,
            "secrets": _plain(former.secrets),
            "session_keys": _plain(former.session_keys),
            "run": former.run,
        }

    @classmethod
    def from_state(cls, plain: dict[str, Any], settings: Settings) -> Canary:
        """
        The opposite of :meth:`dump_state`.

        :param settings: what the primary runs with by now.  What a reload cannot change stays so
            when somebody goes back.
        :raises SettingError: if the former settings mean nothing with that, or to this code, or
            no worker keeps its clients any more.
        """
        if settings.reload_mode != "client":
            raise SettingError("no worker keeps its clients without --reload-mode client")
        former = Settings.from_json(plain["settings"])
        former = former.keeping(settings, fixed(settings, former))
        return cls(
            WorkerSpec(
                worker_command(former),
                former,
                plain["uid"],
                plain["gid"],
                _secrets(plain["secrets"]),
                _secrets(plain["session_keys"]),
                plain["run"],
            ),
            range(plain["slots"]),
            plain["generation"],
            is_inherited=True,
        )


def _plain(secrets: Sequence[bytes]) -> list[str]:
    return [secret.hex() for secret in secrets]


def _secrets(plain: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(secret) for secret in plain)
