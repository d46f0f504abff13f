"""
Static files: a directory as twisted.web serves it, without its listings.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.web.pages import notFound
from twisted.web.static import File
from typing_extensions import override

if TYPE_CHECKING:
    from twisted.web.resource import IResource
    from twisted.web.server import Request


class StaticFiles(File):
    """
    A directory: files with their types, ranges and ``304``, ``index.html`` for folders.

    A folder without an index is not found, and so is what a symbolic link would fetch
    from outside the directory.

    :ivar inside: the real path of the directory, once it was asked for a child.
    """

    indexNames = ("index.html", "index.htm")  # type: ignore[assignment]  # noqa: N815 - Twisted's name; only iterated
    childNotFound = notFound()  # type: ignore[assignment]  # noqa: N815 - any resource will do
    inside = ""

    def __init__(self, path: str, *arguments: Any) -> None:
        """
        :param path: the directory; :class:`File` has the other parameters.
        """
        super().__init__(path, *arguments)
        # What nobody knows is not a page: browsers would run the scripts in it.
        self.defaultType = "application/octet-stream"

    @override
    def getChild(self, path: bytes, request: Request) -> Any:
        # The system calls refuse it, and Twisted has not thought of that.
        return self.childNotFound if b"\0" in path else super().getChild(path, request)

    @override
    def directoryListing(self) -> IResource:
        return self.childNotFound

    @override
    def createSimilarFile(self, path: str) -> Any:
        inside = self.inside or os.path.realpath(self.path)
        if not os.path.realpath(path).startswith(os.path.join(inside, "")):
            return self.childNotFound
        similar = super().createSimilarFile(path)
        similar.inside = inside
        return similar
