"""
All commands of operators in one table: of ``stickyctl``, and of whoever else asks.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from stickyd.errors import OperatorError
from stickyd.operate import asking_workers, changing, checking, looking
from stickyd.operate.command import unlike

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stickyd.operate.command import Command, IAsker
    from stickyd.operate.primary import Primary

#: By name, in the order in which they are shown.
TABLE: Mapping[str, Command] = MappingProxyType(
    {
        command.name: command
        for part in (looking, checking, asking_workers, changing)
        for command in part.COMMANDS
    }
)


class Commands:
    """
    Carries commands out at one primary.
    """

    def __init__(self, primary: Primary) -> None:
        self._primary = primary

    def run(self, name: object, given: object, asker: IAsker) -> Deferred[dict[str, Any]]:
        """
        Carry a command out.

        :param name: of the command; may be anything.
        :param given: its arguments by name; may be anything.
        :return: fires with the answer, as JSON can carry it; fails with
            :exc:`OperatorError` if it is not done.
        """
        return Deferred.fromCoroutine(self._run(name, given, asker))

    async def _run(self, name: object, given: object, asker: IAsker) -> dict[str, Any]:
        command = TABLE.get(name) if isinstance(name, str) else None
        if command is None:
            raise OperatorError(unlike("command", str(name), list(TABLE)))
        return await command.run(self._primary, command.read(given), asker)
