"""
Static files: a directory as twisted.web finds it, without its listings, served as RFC 9110
says.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from typing import TYPE_CHECKING, Any

from twisted.web.http import datetimeToString
from twisted.web.pages import notFound
from twisted.web.server import NOT_DONE_YET
from twisted.web.static import File, getTypeAndEncoding
from typing_extensions import override

from stickyd.serve.static.body import PIECE_BYTES, FileBody
from stickyd.serve.static.preconditions import (
    NOT_MODIFIED,
    PRECONDITION_FAILED,
    Version,
    evaluate,
    takes_part,
)
from stickyd.serve.static.ranges import parse_ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.web.resource import IResource
    from twisted.web.server import Request

#: What opening a file may say if there is none of that name.
_NOT_FOUND = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO)

#: The one name with a dot before it that is there to be asked for (RFC 8615).
_WELL_KNOWN = b".well-known"


class StaticFiles(File):
    """
    A directory: files with their types, ranges and ``304``, ``index.html`` for folders.

    A folder without an index is not found, nor is what a symbolic link would fetch from
    outside the directory, nor, unless it is asked for, what has a dot before its name, but
    for ``/.well-known/``.
    """

    indexNames = ("index.html", "index.htm")  # type: ignore[assignment]  # noqa: N815 - Twisted's name; only iterated
    childNotFound = notFound()  # type: ignore[assignment]  # noqa: N815 - any resource will do

    def __init__(
        self, path: str, *arguments: Any, dotfiles: bool = False, inside: str = ""
    ) -> None:
        """
        :param path: the directory, or something in it; :class:`File` has the other parameters.
        :param dotfiles: whether files and folders with a dot before their names are served.
        :param inside: the real path of the directory, if this is something in it.
        """
        super().__init__(path, *arguments)
        self._dotfiles = dotfiles
        self._inside = inside
        # A file of an unknown type is not a page: browsers would run the scripts in it.
        self.defaultType = "application/octet-stream"

    @override
    def getChild(self, path: bytes, request: Request) -> Any:
        # System calls refuse a NUL byte, for which Twisted does not look.
        if b"\0" in path or (path.startswith(b".") and not self._shows(path)):
            return self.childNotFound
        return super().getChild(path, request)

    def _shows(self, name: bytes) -> bool:
        """
        Tell whether something of this name, which begins with a dot, is served here.
        """
        return self._dotfiles or (name == _WELL_KNOWN and not self._inside)

    @override
    def directoryListing(self) -> IResource:
        return self.childNotFound

    @override
    def createSimilarFile(self, path: str) -> Any:
        inside = self._inside or os.path.realpath(self.path)
        if not os.path.realpath(path).startswith(os.path.join(inside, "")):
            return self.childNotFound
        similar = type(self)(
            path,
            self.defaultType,
            self.ignoredExts,
            self.registry,
            dotfiles=self._dotfiles,
            inside=inside,
        )
        # As File does.
        similar.processors = self.processors
        similar.indexNames = self.indexNames[:]
        similar.childNotFound = self.childNotFound
        return similar

    @override
    def render_GET(self, request: Request) -> Any:
        """
        Serve the file, or what the client wants of it.
        """
        try:
            file = _open(self.path)
        except OSError as error:
            if error.errno in _NOT_FOUND:
                return self.childNotFound.render(request)
            if error.errno in (errno.EACCES, errno.EPERM):
                return self.forbidden.render(request)
            raise
        if file is None:
            # A folder, or something that may block its reader, such as a FIFO.
            return self.redirect(request) if self.isdir() else self.childNotFound.render(request)
        answer: Any = b""
        try:
            answer = self._answer(request, file)
        finally:
            if answer is not NOT_DONE_YET:
                file.close()
        return answer

    render_HEAD = render_GET  # noqa: N815 - Twisted's name

    def _answer(self, request: Request, file: io.FileIO) -> Any:
        """
        Answer with the file, a part of it, or none.

        :param file: closed by the caller unless the answer is ``NOT_DONE_YET``.
        """
        # Of the file that is open: another may have taken its place in the folder.
        status = os.fstat(file.fileno())
        size = status.st_size
        # RFC 9110, 8.8.2.1: not later than the response itself.
        modified_seconds = min(int(status.st_mtime), int(time.time()))
        version = Version(b'"%x-%x"' % (status.st_mtime_ns, size), modified_seconds)
        request.setHeader(b"Accept-Ranges", b"bytes")
        request.setHeader(b"ETag", version.etag)
        request.setHeader(b"Last-Modified", datetimeToString(modified_seconds))

        def field(name: bytes) -> bytes | None:
            if request.getHeader(name) is None:
                return None
            return b", ".join(request.requestHeaders.getRawHeaders(name) or ())

        outcome = evaluate(field, version)
        if outcome == NOT_MODIFIED:
            request.setResponseCode(NOT_MODIFIED)
            return b""
        if outcome == PRECONDITION_FAILED:
            request.setResponseCode(PRECONDITION_FAILED)
            request.setHeader(b"Content-Type", b"text/plain")
            return b"The file is not what you have.\n"
        kind, encoding = getTypeAndEncoding(
            self.basename(), self.contentTypes, self.contentEncodings, self.defaultType
        )
        if encoding:
            request.setHeader(b"Content-Encoding", encoding.encode())
        wanted = field(b"range") if request.method == b"GET" else None
        parts = None
        if wanted is not None and takes_part(field(b"if-range"), version):
            parts = parse_ranges(wanted, size)
        if parts is None:
            return _send(request, file, kind.encode(), [(b"", 0, size)], size)
        return _send_parts(request, file, kind.encode(), parts, size)


def _open(path: str) -> io.FileIO | None:
    """
    Open a regular file.

    :return: :obj:`None` if it is something else: a folder, or what has no end.
    :raises OSError: if it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return io.FileIO(descriptor, "rb")
    os.close(descriptor)
    return None


def _send_parts(
    request: Request, file: io.FileIO, kind: bytes, parts: Sequence[tuple[int, int]], size: int
) -> Any:
    if not parts:
        request.setResponseCode(416)
        request.setHeader(b"Content-Range", b"bytes */%d" % size)
        return b""
    request.setResponseCode(206)
    ranges = [b"bytes %d-%d/%d" % (offset, offset + part - 1, size) for offset, part in parts]
    if len(parts) == 1:
        [(offset, length)] = parts
        request.setHeader(b"Content-Range", ranges[0])
        return _send(request, file, kind, [(b"", offset, length)], length)
    boundary = os.urandom(16).hex().encode()
    pieces = []
    total = 0
    for (offset, length), content_range in zip(parts, ranges, strict=True):
        head = b"\r\n--%b\r\nContent-Type: %b\r\nContent-Range: %b\r\n\r\n" % (
            boundary,
            kind,
            content_range,
        )
        pieces.append((head, offset, length))
        total += len(head) + length
    end = b"\r\n--%b--\r\n" % boundary
    pieces.append((end, 0, 0))
    kind = b"multipart/byteranges; boundary=" + boundary
    return _send(request, file, kind, pieces, total + len(end))


def _send(
    request: Request, file: io.FileIO, kind: bytes, parts: list[tuple[bytes, int, int]], size: int
) -> Any:
    """
    Send parts of the file.

    :param size: how much that is altogether.
    """
    request.setHeader(b"Content-Type", kind)
    [(_, offset, length), *more] = parts
    if request.method == b"HEAD":
        request.setHeader(b"Content-Length", b"%d" % size)
        return b""
    if not more and length <= PIECE_BYTES:
        # In one piece, with its head.
        file.seek(offset)
        body = file.read(length) if length else b""
        if len(body) == length:
            return body
        file.seek(offset)
    request.setHeader(b"Content-Length", b"%d" % size)
    FileBody(request, file, parts).start()
    return NOT_DONE_YET
