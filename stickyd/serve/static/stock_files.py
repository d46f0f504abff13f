"""
Files that ``twisted.web.static`` serves, sent as our own are: by the kernel, where it can.
"""

from __future__ import annotations

import io
import os
import stat
from typing import Any

from stickyd.serve.static.body import FileBody

#: What is not imported for this: who has such a producer has it already.
_MODULE = "twisted.web.static"


def file_body(request: Any, producer: Any) -> FileBody | None:
    """
    Give what does the work of a producer of Twisted's: one that writes a file, or one range of it,
    and is nobody's subclass.

    :param producer: a pull producer, whatever it is.
    :return: what is to be registered in its place, and closes its file; :obj:`None` for all others.
    """
    kind = type(producer)
    if kind.__module__ != _MODULE:
        return None
    file = producer.fileObject
    if not isinstance(file, (io.FileIO, io.BufferedReader)):
        return None  # a member of an archive, or what an application has made
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        return None
    if kind.__name__ == "SingleRangeStaticProducer":
        offset, count = producer.offset, producer.size
    elif kind.__name__ == "NoRangeStaticProducer":
        offset = file.tell()
        count = _told_bytes(request, status.st_size - offset)
    else:
        return None
    return FileBody(request, file, [(b"", offset, count)])


def _told_bytes(request: Any, count: int) -> int:
    """
    How much the client was told to expect, or all there is.
    """
    told = request.responseHeaders.getRawHeaders(b"content-length", [])
    return int(told[0]) if len(told) == 1 and told[0].isdigit() else count
