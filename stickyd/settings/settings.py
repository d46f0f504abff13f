"""
The settings of a server, checked.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stickyd.settings.consistency import check
from stickyd.settings.reading import read_checked
from stickyd.settings.table import Table
from stickyd.settings.values import spelt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stickyd.settings.values import Rule


@dataclass(frozen=True)
class Settings(Table):
    """
    What the operator decided; every value is checked.

    Make one with :meth:`read`; the constructor checks only what concerns several settings at
    once.
    """

    def __post_init__(self) -> None:
        """
        Check what one setting demands of another.

        :raises SettingError: if they contradict each other.
        """
        check(self, {f.name for f in fields(self) if getattr(self, f.name) != f.default})

    @classmethod
    def read(cls, given: Mapping[str, object], where: str = "--") -> Settings:
        """
        Check settings and fill in the defaults.

        :param given: values by name; a name may be spelt with ``-`` or ``_``.
        :param where: stands before a name in an error: ``--``, or a file's name.
        :raises SettingError: for an unknown name or a value out of bounds.
        """
        return cls(**read_some(given, where))

    def to_json(self) -> str:
        """
        The settings as text, for a worker.
        """
        return json.dumps(asdict(self))

    def keeping(self, former: Settings, names: Iterable[str]) -> Settings:
        """
        These settings, but for those named, which stay as they were.
        """
        return replace(self, **{name: getattr(former, name) for name in names})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """
        The opposite of :meth:`to_json`.
        """
        return cls.read({name: value for name, value in json.loads(text).items()
                         if (name, value) != ("workers", 0)})  # fmt: skip


_RULES: Mapping[str, tuple[Rule, Any]] = MappingProxyType(
    {spelt(f.name): (f.metadata["rule"], f.default) for f in fields(Settings)}
)


def rules() -> Mapping[str, tuple[Rule, Any]]:
    """
    Each setting's name, spelt as on the command line, with its rule and its default.
    """
    return _RULES


def read_some(given: Mapping[str, object], where: str) -> dict[str, Any]:
    """
    Check settings, and leave out what is not given.

    :return: values by attribute name.
    :raises SettingError: as :meth:`Settings.read`.
    """
    return read_checked(rules(), given, where)
