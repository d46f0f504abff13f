"""
What the value of one setting may be, and reading one from text, TOML or JSON.

Each function declares a setting of one kind, as a field of a dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from stickyd.errors import SettingError
from stickyd.settings.hints import endpoint_meant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True)
class Rule:
    """
    What one setting may be.

    :ivar metavar: stands for the value in the help.
    :ivar split: takes a list that is one text apart; without it the text is one entry.
    :ivar group: the heading that it stands under, where settings are shown.
    :ivar help: what the operator reads of it.
    """

    metavar: str
    kind: type = str
    least: float = 0
    most: float = float("inf")
    choices: tuple[str, ...] = ()
    split: Callable[[str], list[str]] | None = None
    group: str = ""
    help: str = ""

    def read(self, name: str, value: object, where: str) -> Any:
        """
        Check a value, which may still be the text of the command line.

        :param where: stands before the name in an error.
        :raises SettingError: says what would do.
        """
        if self.choices:
            if value not in self.choices:
                raise _unlike(name, value, where, self.choices)
            return value
        if self.kind is tuple:
            return self._read_list(name, value, where)
        if self.kind is str:
            if not isinstance(value, str):
                raise SettingError(f"{where}{name}: expected text, not {value!r}")
            return value
        return self._read_number(name, value, where)

    def _read_list(self, name: str, value: object, where: str) -> tuple[str, ...]:
        entries = value
        if isinstance(value, str):
            entries = [value] if self.split is None else self.split(value)
        if not isinstance(entries, (list, tuple)) or not all(isinstance(e, str) for e in entries):
            raise SettingError(f"{where}{name}: expected text or a list of texts, not {value!r}")
        return tuple(entries)

    def _read_number(self, name: str, value: object, where: str) -> float:
        wanted = "a whole number" if self.kind is int else "a number of seconds"
        problem = SettingError(f"{where}{name}: {value!r} is not {wanted} {self._range()}")
        if isinstance(value, bool):
            raise problem
        try:
            number = self.kind(value)
        except (TypeError, ValueError):
            raise problem from None
        if isinstance(value, float) and number != value:
            raise problem
        if not self.least <= number <= self.most:
            raise problem
        return float(number) if self.kind is float else int(number)

    def _range(self) -> str:
        if self.most == float("inf"):
            return f"of at least {self.least:g}"
        return f"from {self.least:g} to {self.most:g}"


def spelt(name: str) -> str:
    """
    A setting's name as it is on the command line.
    """
    return name.replace("_", "-")


def _unlike(name: str, value: object, where: str, known: Iterable[str]) -> SettingError:
    known = list(known)
    close = get_close_matches(str(value), known, 1, 0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return SettingError(f"{where}{name}: {value!r} is unknown; {hint}known: {', '.join(known)}")


def _setting(default: object, rule: Rule) -> Any:
    return field(default=default, metadata={"rule": rule})


def text(default: str, metavar: str, *, group: str, help: str) -> Any:  # noqa: A002
    """
    Any text.
    """
    return _setting(default, Rule(metavar, group=group, help=help))


def texts(
    default: tuple[str, ...],
    metavar: str,
    split: Callable[[str], list[str]] | None = None,
    *,
    group: str,
    help: str,  # noqa: A002
) -> Any:
    """
    A list of texts.

    :param split: takes a list that is one text apart.
    """
    return _setting(default, Rule(metavar, tuple, split=split, group=group, help=help))


def choice(default: str, *others: str, metavar: str = "MODE", group: str, help: str) -> Any:  # noqa: A002
    """
    One of some words.
    """
    return _setting(default, Rule(metavar, choices=(default, *others), group=group, help=help))


def whole(
    default: int,
    metavar: str = "N",
    least: int = 0,
    most: float = float("inf"),
    *,
    group: str,
    help: str,  # noqa: A002
) -> Any:
    """
    A whole number within bounds.
    """
    return _setting(default, Rule(metavar, int, least, most, group=group, help=help))


def seconds(default: float, least: float = 0, *, group: str, help: str) -> Any:  # noqa: A002
    """
    A time, in seconds.
    """
    return _setting(default, Rule("SECONDS", float, least, group=group, help=help))


def port_endpoint(where: str, port: object) -> str:
    """
    The endpoint of a port number.

    :raises SettingError: if it is no number from 0 to 65535; 0 lets the kernel choose.
    """
    try:
        number = int(str(port))
    except ValueError:
        number = -1
    if not 0 <= number <= 65535:
        endpoint = endpoint_meant(str(port))
        hint = f"; write --listen {endpoint}" if endpoint and ":" in str(port) else ""
        raise SettingError(f"{where}: {port!r} is not a port number from 0 to 65535{hint}")
    return f"tcp:{number}"
