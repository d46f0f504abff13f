"""
The data of a session as one request sees it, which knows what was read and written.

*Theory of operation.*  A request works on a copy of its own, so what another request does at
the same time never shows in the middle of it.  When it is done, what it has changed is put on
the session as that then stands.  If nobody else has changed that, it is the copy; else both are
compared key by key.  The request has depended on the keys that it has read, and on those that
it has written; if none of them is different by now, the outcome is the same as if the request
had begun only now, and its changes are made to the session as it is.  Otherwise they are
refused with :exc:`stickyd.errors.SessionConflict`: the request would have to be made again.

A list or a dict that the application got may be changed by it at any time, which nobody
tells us.  So the keys whose values are such are remembered when they are handed out, and
compared with what was loaded, by the text of :mod:`stickyd.sessions.plain`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from stickyd.errors import SessionConflict
from stickyd.sessions.plain import decode, encode, scalar_size

if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView

    from typing_extensions import Self

_COMPOUND = (list, tuple, dict)

_MISSING: Any = object()

_EMPTY = b"{}"

#: What stands in a session that is not loaded yet: C code looks whether a dict is empty.
_UNLOADED = ""


class TrackedData(dict[str, Any]):
    """
    A dict of plain data (see :class:`stickyd.sessions.interfaces.ISessionData`).

    A value that is no plain data is refused when it is put in, with
    :exc:`stickyd.errors.NotCarriable`; one that has become so inside, when it is saved.  Values
    are not copied: who puts a list in may go on with it, as with any dict.

    :ivar accessed: whether anything was read or written.  May be set.
    """

    def __init__(self, text: bytes = b"{}", load: Callable[[], bytes] | None = None) -> None:
        """
        :param text: the session's data, as :func:`stickyd.sessions.plain.encode` makes it.
        :param load: gives the text in its place when it is first asked for.
        """
        super().__init__()
        self.accessed = False
        self._modified = False
        self._load = load
        self._text = text
        self._pristine: dict[str, Any] | None = None  # what was loaded, if it was asked for
        self._known: dict[str, bytes | None] = {}  # what else was learned, by key
        self._read: set[str] = set()
        self._written: set[str] = set()
        self._under_way: set[str] = set()  # what was written, and is being saved
        # What merged() has given, and the keys in it that others have changed.
        self._outcome: tuple[bytes, set[str]] | None = None
        self._handed: set[str] = set()
        self._listed = False  # which keys there are was read
        self._judged = False  # whether there are any was read
        self._cleared = False
        if load is None:
            if text != _EMPTY:
                super().update(decode(text))
        else:
            super().__setitem__(_UNLOADED, None)

    # Reading.

    def __getitem__(self, key: str) -> Any:
        self._see(key)
        return super().__getitem__(key)

    @overload
    def get(self, key: str, default: None = None, /) -> Any | None: ...
    @overload
    def get(self, key: str, default: Any, /) -> Any: ...
    def get(self, key: str, default: Any = None, /) -> Any:
        """
        As of a dict.
        """
        self._see(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        if isinstance(key, str):
            self._see(key)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self._list()
        return super().__iter__()

    def __reversed__(self) -> Iterator[str]:
        self._list()
        return super().__reversed__()

    def __len__(self) -> int:
        self._list()
        return super().__len__()

    def __bool__(self) -> bool:
        self._use()
        if self._written:
            # What it says is of what was loaded and of what was done here.
            self._listed = True
        else:
            self._judged = True
        return super().__len__() > 0

    def keys(self) -> KeysView[str]:  # type: ignore[override]  # a dict has a class of its own
        """
        As of a dict.
        """
        self._list()
        return super().keys()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]  # the same
        """
        As of a dict.
        """
        self._see_all()
        return super().values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]  # the same
        """
        As of a dict.
        """
        self._see_all()
        return super().items()

    def copy(self) -> dict[str, Any]:
        """
        Give a plain dict of the same values.
        """
        return dict(self.items())

    def __eq__(self, other: object) -> bool:
        return self.copy() == other

    def __ne__(self, other: object) -> bool:
        return self.copy() != other

    __hash__ = None  # as of a dict

    def __or__(self, other: Any) -> dict[str, Any]:  # type: ignore[override]  # of any keys
        return self.copy() | dict(other)

    def __ror__(self, other: Any) -> dict[str, Any]:  # type: ignore[override]  # the same
        return dict(other) | self.copy()

    def __repr__(self) -> str:
        # It may be asked for by a log: that is no use of it.
        return "<session, not loaded>" if self._load else repr(dict(super().items()))

    def __reduce__(self) -> tuple[Any, ...]:
        # Who copies or pickles it gets the data, not what a request did to it.
        return dict, (self.copy(),)

    # Writing.

    def __setitem__(self, key: str, value: Any) -> None:
        if type(key) is not str or scalar_size(value) is None:
            encode({key: value})  # which says what is wrong with it
        self._write(key)
        super().__setitem__(key, value)
        if isinstance(value, _COMPOUND):
            self._handed.add(key)

    def __delitem__(self, key: str) -> None:
        self._see(key)
        super().__delitem__(key)
        self._write(key)

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """
        As of a dict.
        """
        self._see(key)
        if super().__contains__(key):
            self._write(key)
            return super().pop(key)
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, Any]:
        """
        As of a dict.
        """
        self._see_all()
        key, value = super().popitem()
        self._write(key)
        return key, value

    def setdefault(self, key: str, default: Any = None) -> Any:
        """
        As of a dict.
        """
        if key not in self:
            self[key] = default
        return super().__getitem__(key)

    def update(self, *others: Any, **named: Any) -> None:
        """
        As of a dict.
        """
        changes = dict(*others, **named)
        for key, value in changes.items():
            if type(key) is not str or scalar_size(value) is None:
                encode({key: value})  # before anything is changed
        for key, value in changes.items():
            self[key] = value
        self.mark_modified()

    def __ior__(self, other: Any) -> Self:  # type: ignore[override]
        self.update(other)
        return self

    def clear(self) -> None:
        """
        As of a dict.
        """
        self._use()
        self._modified = self._cleared = True
        self._written.update(super().__iter__())
        super().clear()

    # What became of it.

    @property
    def modified(self) -> bool:
        """
        Whether anything was changed in this request, inside of values too.  Set it to have the
        session saved, and its cookie sent, in any case.

        :raise stickyd.errors.NotCarriable: a value has become something else than plain data.
        """
        return self._modified or bool(self._load is None and self._changed_inside())

    @modified.setter
    def modified(self, modified: bool) -> None:
        self._modified = modified

    def mark_accessed(self) -> None:
        """
        Say that the session was used: Starlette does.
        """
        self._use()

    def mark_modified(self) -> None:
        """
        Say that the session was changed.
        """
        self._use()
        self._modified = True

    @property
    def loaded(self) -> bool:
        """
        Whether its data is here.
        """
        return self._load is None

    @property
    def unsaved(self) -> bool:
        """
        Whether there is something that :meth:`settled` was not told of.

        :raise stickyd.errors.NotCarriable: as ``modified``.
        """
        return self._load is None and bool(
            self._written or self._under_way or self._cleared or self._changed_inside()
        )

    @property
    def void(self) -> bool:
        """
        Whether there is nothing in it; asking is no use.
        """
        return self._load is None and not super().__len__()

    @property
    def cleared(self) -> bool:
        """
        Whether all of it was taken out at once, and not its last value by itself.
        """
        return self._cleared

    def changes(self) -> set[str]:
        """
        The keys whose values were written, or have changed inside, and are not saved.
        """
        return self._written | self._under_way | self._changed_inside()

    def merged(self, current: bytes) -> bytes:
        """
        Put what was changed on the session as it stands.

        :param current: the session's data by now.
        :return: the data that it shall have.
        :raise stickyd.errors.SessionConflict: somebody else has changed what was read or
            written here.
        :raise stickyd.errors.NotCarriable: as ``modified``.
        """
        # What is written from now on is not saved by this.
        self._under_way |= self._written
        self._written.clear()
        self._outcome = None
        if current == self._text and not self._known:
            text = encode(dict(super().items()))
            self._outcome = text, set()
            return text
        mine = self.changes()
        if not mine and not self._cleared:
            return current
        base, fresh = self._base(), decode(current)
        theirs = _prints(fresh)
        changed = {key for key in {*base, *theirs} if base.get(key) != theirs.get(key)}
        clash = {key for key in changed & mine if theirs.get(key) != self._print(key)}
        clash |= changed & self._read
        if self._cleared:
            clash |= changed
        if self._listed:
            clash |= base.keys() ^ theirs.keys()
        if clash or (self._judged and bool(base) != bool(theirs)):
            names = ", ".join(sorted(map(repr, clash))) or "whether there is anything in it"
            raise SessionConflict(
                f"another request has changed the session meanwhile, and this one has used: {names}"
            )
        for key in mine:
            if super().__contains__(key):
                fresh[key] = super().__getitem__(key)
            else:
                fresh.pop(key, None)
        text = encode(fresh)
        self._outcome = text, changed - mine
        return text

    def settled(self, text: bytes) -> None:
        """
        Note that the session is now saved, and go on from there: what others have changed is
        seen from now on, and what was read before does not count any more.

        :param text: what :meth:`merged` gave, or what was loaded since.
        """
        self._load = None
        outcome, self._outcome = self._outcome, None
        if outcome is None or outcome[0] != text:
            self._written.clear()
            self._refresh(text)
        elif outcome[1]:
            self._see_from(decode(text), outcome[1] - self._written)
        self._text, self._pristine = text, None
        self._known.clear()
        self._read.clear()
        self._under_way.clear()
        self._listed = self._judged = self._cleared = False

    def _refresh(self, text: bytes) -> None:
        """
        Hold what a text has; where that is what is held already, go on with the same objects.
        """
        fresh = decode(text)
        prints = _prints(fresh)
        keys = {*super().__iter__(), *fresh}
        self._see_from(fresh, {key for key in keys if self._print(key) != prints.get(key)})

    def _see_from(self, fresh: dict[str, Any], keys: set[str]) -> None:
        for key in keys - fresh.keys():
            super().pop(key, None)
        for key in fresh:
            if key in keys:
                super().__setitem__(key, fresh[key])

    def absorb(self, text: bytes, keys: set[str]) -> None:
        """
        See what a transaction of this request has changed, which is saved already.

        :param text: the session's data since then.
        :param keys: those that it has changed.
        """
        self._use()
        fresh = decode(text)
        for key in keys:
            if key in fresh:
                super().__setitem__(key, fresh[key])
                self._known[key] = encode({key: fresh[key]})
            else:
                super().pop(key, None)
                self._known[key] = None
            # So that later changes inside of it are found.
            self._handed.add(key)

    # Inside.

    def _use(self) -> None:
        self.accessed = True
        if self._load is not None:
            # Only now, as it may fail; and not again meanwhile.
            text = self._load()
            self._load, self._text = None, text
            super().clear()
            super().update(decode(text))

    def _see(self, key: str) -> None:
        self._use()
        self._read.add(key)
        if isinstance(super().get(key), _COMPOUND):
            self._handed.add(key)

    def _list(self) -> None:
        self._use()
        self._listed = True

    def _see_all(self) -> None:
        self._list()
        for key in super().__iter__():
            self._see(key)

    def _write(self, key: str) -> None:
        self._use()
        self._modified = True
        self._written.add(key)

    def _print(self, key: str) -> bytes | None:
        return encode({key: super().__getitem__(key)}) if super().__contains__(key) else None

    def _base(self) -> dict[str, bytes]:
        """
        What this request takes for saved: the text of each key's value.
        """
        prints = {**_prints(decode(self._text)), **self._known}
        return {key: text for key, text in prints.items() if text is not None}

    def _base_of(self, key: str) -> bytes | None:
        if key in self._known:
            return self._known[key]
        if self._pristine is None:
            self._pristine = decode(self._text)
        return encode({key: self._pristine[key]}) if key in self._pristine else None

    def _changed_inside(self) -> set[str]:
        return {
            key for key in self._handed - self._written if self._print(key) != self._base_of(key)
        }


def _prints(data: dict[str, Any]) -> dict[str, bytes]:
    """
    Give the text of each key's value.
    """
    return {key: encode({key: value}) for key, value in data.items()}
