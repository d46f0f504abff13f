"""
Reading what is given of the settings, whatever it comes from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.errors import SettingError
from stickyd.settings.hints import meant
from stickyd.settings.values import spelt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stickyd.settings.values import Rule


def read_checked(
    known: Mapping[str, tuple[Rule, Any]], given: Mapping[str, object], where: str
) -> dict[str, Any]:
    """
    Check each value that is given.

    :param known: all settings, spelt as on the command line.
    :param given: values by name, spelt with ``-`` or ``_``.
    :param where: stands before a name in an error: ``--``, or a file's name.
    :return: values by attribute name.
    :raises SettingError: for an unknown name or a value out of bounds.
    """
    checked: dict[str, Any] = {}
    for name, value in given.items():
        spelling = spelt(str(name))
        if spelling not in known:
            hint = _hint(str(name), value, known)
            raise SettingError(f"{where}{name}: there is no such setting; {hint}")
        if spelling == "workers" and value == "auto":
            checked["workers"] = 0
            continue
        checked[spelling.replace("-", "_")] = known[spelling][0].read(spelling, value, where)
    return checked


def _hint(name: str, value: object, known: Mapping[str, object]) -> str:
    if isinstance(value, dict):
        return f"settings stand in no table: leave out [{name}]"
    if name.lower() == "port":
        return f"write listen = ['tcp:{value}']"
    return meant(name, known, config=True) or f"known are {', '.join(known)}"
