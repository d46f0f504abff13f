"""
One command that an operator may give: its name, its arguments, its help and its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol

from stickyd.errors import OperatorError
from stickyd.settings.table import MOST_WORKERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from stickyd.operate.primary import Primary

#: The longest text of an argument: a path or a header of a request, in characters.
LONGEST_TEXT = 65_536

#: How many texts a list may have: as many headers as a request has.
MOST_TEXTS = 256

#: Stands for every slot.
ALL = "all"


class IAsker(Protocol):
    """
    Whoever has given a command: hears how it goes on until its answer.

    :ivar is_open: whether it still listens.
    """

    @property
    def is_open(self) -> bool: ...

    def step(self, text: str, **told: object) -> None:
        """
        Tell how far it is.

        :param text: a line for people.
        :param told: the same for programs, as JSON can carry it.
        """

    def event(self, event: Mapping[str, object]) -> None:
        """
        Pass on something that has happened.
        """

    def call_when_closed(self, call: Callable[[], object]) -> None:
        """
        Have ``call`` called once when it listens no longer.
        """


@dataclass(frozen=True)
class Argument:
    """
    One argument of a command.

    :ivar name: as in the message; on the command line with ``-`` for ``_``.
    :ivar help: for ``--help``.
    :ivar read: gives the value that a text, or a JSON value, stands for; raises
        :exc:`OperatorError` if it stands for none.
    :ivar metavar: stands for the value in the help.
    :ivar positional: whether it stands without its name, and must be given.
    :ivar optional: whether it stands without its name, and need not be given.
    :ivar flag: whether it is either given or not.
    :ivar many: whether it may be given several times; then its value is a list.
    :ivar default: what it is if it is not given.
    :ivar choices: for completion, if there are only a few.
    """

    name: str
    help: str
    read: Callable[[object], Any]
    metavar: str = ""
    positional: bool = False
    optional: bool = False
    flag: bool = False
    many: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()

    @property
    def stands_alone(self) -> bool:
        """
        Whether it stands on the command line without its name.
        """
        return self.positional or self.optional

    def value_of(self, given: object) -> Any:
        """
        Check what was given.

        :raises OperatorError: says which argument is wrong, and what would do.
        """
        try:
            if not self.many:
                return self.read(given)
            if not isinstance(given, list) or len(given) > MOST_TEXTS:
                raise OperatorError(f"a list of at most {MOST_TEXTS} texts is wanted")
            return [self.read(each) for each in given]
        except OperatorError as problem:
            raise OperatorError(f"{self.name}: {problem}") from None


@dataclass(frozen=True)
class Command:
    """
    One command.

    :ivar run: the code: is given the primary, the arguments by name, and whoever asks; what it
        returns is the answer, as JSON can carry it.  Raises :exc:`OperatorError` if it is
        not done.
    :ivar changes: whether it changes something; else it only looks.
    """

    name: str
    help: str
    run: Callable[[Primary, dict[str, Any], IAsker], Awaitable[dict[str, Any]]]
    arguments: tuple[Argument, ...] = ()
    changes: bool = False

    def read(self, given: object) -> dict[str, Any]:
        """
        Check arguments, and fill in those that are not given.

        :raises OperatorError: if there is one that it does not have, or one is wrong or missing.
        """
        if not isinstance(given, dict):
            raise OperatorError(f"{self.name}: the arguments must be a JSON object")
        known = [argument.name for argument in self.arguments]
        for name in given:
            if name not in known:
                raise OperatorError(f"{self.name}: {unlike('argument', str(name), known)}")
        values = {}
        for argument in self.arguments:
            if argument.name in given:
                values[argument.name] = argument.value_of(given[argument.name])
            elif argument.positional:
                raise OperatorError(f"{self.name}: {argument.metavar} is missing")
            else:
                values[argument.name] = [] if argument.many else argument.default
        return values


def unlike(what: str, name: str, known: list[str]) -> str:
    """
    Say that there is nothing of a name, and what is meant.
    """
    close = get_close_matches(name, known, 1, 0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    there = ", ".join(known) if known else "none"
    return f"there is no {what} {name[:60]!r}; {hint}known: {there}"


# what values may be


def text(given: object) -> str:
    """
    Any text that is not too long.
    """
    if not isinstance(given, str):
        raise OperatorError(f"a text is wanted, not {str(given)[:60]!r}")
    if len(given) > LONGEST_TEXT:
        raise OperatorError(f"it is longer than {LONGEST_TEXT} characters")
    return given


def yes(given: object) -> bool:
    """
    Whether a flag is set.
    """
    if not isinstance(given, bool):
        raise OperatorError(f"true or false is wanted, not {str(given)[:60]!r}")
    return given


def whole(least: int, most: int) -> Callable[[object], int]:
    """
    A whole number within bounds.
    """

    def read(given: object) -> int:
        if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 10:
            given = int(given)
        if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
            raise OperatorError(f"{str(given)[:60]!r} is no whole number from {least} to {most}")
        return given

    return read


@dataclass(frozen=True)
class Part:
    """
    Some of all slots.

    :ivar number: how many.
    :ivar of_hundred: whether of each hundred.
    """

    number: int
    of_hundred: bool

    def of(self, all_slots: int) -> int:
        """
        How many that is, at least 1.
        """
        return max(1, self.number * all_slots // 100) if self.of_hundred else self.number


_part = whole(1, MOST_WORKERS)


def part(given: object) -> Part:
    """
    A number of slots, or a share of them.
    """
    is_share = isinstance(given, str) and given.endswith("%")
    number = given[:-1] if isinstance(given, str) and is_share else given
    try:
        return Part(_part(number), is_share)
    except OperatorError:
        raise OperatorError(
            f"{str(given)[:60]!r} is no number of slots and no share of them; write for example"
            " 1 or 25%"
        ) from None


_slot = whole(0, MOST_WORKERS - 1)


def slot(given: object) -> int:
    """
    The number of a slot.
    """
    try:
        return _slot(given)
    except OperatorError:
        raise OperatorError(
            f"{str(given)[:60]!r} is no slot; write its number, as in: stickyctl status"
        ) from None


def require_slot(primary: Primary, index: int) -> None:
    """
    Refuse the number of a slot that there is not.

    :raises OperatorError: says which there are.
    """
    count = len(primary.fleet.table.members)
    if index >= count:
        raise OperatorError(f"there is no slot {index}: they are 0 to {count - 1}")


def slot_or_all(given: object) -> int | None:
    """
    The number of a slot; None for all.
    """
    return None if given == ALL else slot(given)


SLOT = Argument("slot", "the number of the slot, as status has it", slot, "SLOT", positional=True)
SLOT_OR_ALL = Argument(
    "slot", "the number of the slot, or all", slot_or_all, "SLOT|all", positional=True
)
WAIT = Argument(
    "wait", "wait until the workers that are relieved by it have left", yes, flag=True,
    default=False,
)  # fmt: skip
