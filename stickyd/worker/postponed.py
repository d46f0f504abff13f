"""
Imports of Twisted's that a worker may never need, put off until something asks for them.

Twisted's TCP, its reactors and AMP import OpenSSL, cryptography and service_identity for
``startTLS`` and ``listenSSL``, and its HTTP imports h2 for the HTTP/2 of its own channel.  They are
a quarter of what starting a worker costs, and 12 MiB of it.  So in a worker they find modules of
ours in their place, whose classes import the real ones when they are called.  Python 3.15 has
``lazy import`` for this; here it is done for the names below and while Twisted is imported: an
application that imports any of these modules gets the real one.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What is put off, with the packages that it needs: without these Twisted shall find out itself.
_TLS = (("twisted.protocols.tls", "twisted.internet.ssl"), ("OpenSSL", "service_identity"))
_HTTP2 = (("twisted.web._http2",), ("h2", "priority"))


class PostponedName:
    """
    A name of a module that is imported when it is called, or asked for an attribute.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def _found(self) -> Any:
        return getattr(import_module(self._module), self._name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """
        Call the real one.
        """
        return self._found()(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found(), name)


class PostponedModule(ModuleType):
    """
    Stands for a module among those that are imported, and is a way to the real one afterwards.
    """

    @override
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the machinery of imports, which must find what is not there
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            return PostponedName(self.__name__, name)
        return getattr(import_module(self.__name__), name)


@contextmanager
def _postponed(modules: tuple[str, ...], needed: tuple[str, ...]) -> Iterator[None]:
    """
    Have modules that are not imported yet stand for themselves only.

    :param needed: the packages without which they could not be imported.
    """
    if not all(find_spec(package) for package in needed):
        yield
        return
    ours = {name: PostponedModule(name) for name in modules if name not in sys.modules}
    sys.modules.update(ours)
    try:
        yield
    finally:
        for name, module in ours.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def import_network() -> None:
    """
    Import Twisted's TCP, the base of its reactors, and AMP, without TLS.
    """
    with _postponed(*_TLS):
        import twisted.internet.posixbase
        import twisted.internet.tcp
        import twisted.protocols.amp  # noqa: F401


def import_web() -> None:
    """
    Import Twisted's HTTP without its HTTP/2; ours knows nothing of that.
    """
    with _postponed(*_HTTP2):
        import twisted.web.http  # noqa: F401
