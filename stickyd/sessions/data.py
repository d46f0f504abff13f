"""
The data of a session in use.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from stickyd.errors import SessionTooLarge
from stickyd.sessions.interfaces import ISessionData
from stickyd.sessions.plain import decode, encode, scalar_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_COMPOUND = (list, tuple, dict)


@implementer(ISessionData)
class SessionData(MutableMapping[str, Any]):
    """
    Holds the saved text, and beside it the values that were read from it, as soon as
    somebody asks for one.

    Who was given a list or a dict may change it at any time, and keep it.  So
    from then on each :meth:`seal` writes the values anew and compares the text.
    """

    __slots__ = ("_changed", "_draft", "_exposed", "_guard", "_limit", "_loaded", "_size", "_text")

    def __init__(self, text: bytes, limit: int, guard: Callable[[], object]) -> None:
        """
        :param text: the saved data, as :func:`stickyd.sessions.plain.encode` makes it.
        :param limit: the most bytes that the text may have.
        :param guard: called before every change; raises if there may be none.
        """
        self._text = text
        self._draft: bytes | None = None  # what the whole was replaced with, and nobody read yet
        self._limit = limit
        self._guard = guard
        self._loaded: dict[str, Any] | None = None
        self._changed = False
        self._exposed = False
        self._size = len(text)  # never too small, but for changes inside of values

    def __getitem__(self, key: str) -> Any:
        value = self._values()[key]
        if isinstance(value, _COMPOUND):
            self._exposed = True
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self._guard()
        size = scalar_size(value)
        if size is None or type(key) is not str:
            # Decoding what was encoded makes the copy, and makes it the very value that
            # another worker would read.
            text = encode({key: value})
            size = len(text)
            value = decode(text)[key]
        else:
            size += 12 * len(key) + 4
        values = self._values()
        # An estimate, never too small; the truth is found out only if it is too large.
        size += self._size
        if size > self._limit:
            size = len(encode({**values, key: value}))
            if size > self._limit:
                raise SessionTooLarge(
                    f"with {key!r} the session's data would be {size} bytes; "
                    f"{self._limit} are allowed"
                )
        values[key] = value
        self._size = size
        self._changed = True

    def __delitem__(self, key: str) -> None:
        self._guard()
        del self._values()[key]
        self._changed = True

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values()!r})"

    def setdefault(self, key: str, default: Any = None) -> Any:
        """
        As of a dict, but for a new key it gives the session's own copy of ``default``,
        not ``default`` itself: a change to that would be lost.
        """
        if key not in self:
            self[key] = default
        return self[key]

    @property
    def size_bytes(self) -> int:
        """
        How long its text is, about.
        """
        return self._size

    @property
    def unsealed(self) -> bool:
        """
        Whether the data may not be what was saved.
        """
        if self._loaded is None:
            return self._draft is not None
        return self._changed or self._exposed

    def text(self) -> bytes:
        """
        Give the data as it stands, saved or not, as :func:`stickyd.sessions.plain.encode`
        makes it.

        :raise stickyd.errors.NotCarriable: as :meth:`seal`.
        """
        if self._loaded is None:
            return self._text if self._draft is None else self._draft
        return encode(self._loaded) if self._changed or self._exposed else self._text

    def replace(self, text: bytes) -> None:
        """
        Replace all of the data.

        :param text: as :func:`stickyd.sessions.plain.encode` makes it.
        :raise stickyd.errors.SessionTooLarge: nothing has changed.
        :raise stickyd.errors.SessionMoved: the session is another worker's now.
        """
        self._guard()
        if len(text) > self._limit:
            raise SessionTooLarge(
                f"the session's data would be {len(text)} bytes; {self._limit} are allowed"
            )
        self._draft, self._loaded = text, None
        self._changed = self._exposed = False
        self._size = len(text)

    def seal(self) -> bytes | None:
        """
        Check the data as it stands.

        :return: its text if it is not the one that was saved, else :obj:`None`.
        :raise stickyd.errors.NotCarriable: a value was changed into something that is
            not plain data.
        :raise stickyd.errors.SessionTooLarge: values have grown too much.
        """
        if self._loaded is None:
            return None if self._draft == self._text else self._draft
        if not (self._changed or self._exposed):
            return None
        text = encode(self._loaded)
        if len(text) > self._limit:
            raise SessionTooLarge(
                f"the session's data has grown to {len(text)} bytes; {self._limit} are allowed"
            )
        self._size = len(text)
        self._changed = False
        return None if text == self._text else text

    def saved(self, text: bytes) -> None:
        """
        Note that the data was saved as ``text``, which :meth:`seal` gave.
        """
        self._text = text
        if self._draft == text:
            self._draft = None

    def unsaved(self) -> None:
        """
        Note that what :meth:`seal` gave could not be saved, so that it gives it again.
        """
        self._changed = True

    def reset(self, text: bytes) -> None:
        """
        Take ``text`` for what is saved, and forget everything else.  Lists and dicts
        that were given out no longer belong to the session.
        """
        self._text, self._draft = text, None
        self._loaded = None
        self._changed = False
        self._exposed = False
        self._size = len(text)

    def _values(self) -> dict[str, Any]:
        if self._loaded is None:
            self._loaded = decode(self.text())
            self._changed, self._draft = self._draft is not None, None
        return self._loaded
