"""
Settings from a TOML file.
"""

from __future__ import annotations

import codecs
import sys
from typing import TYPE_CHECKING, Any

from stickyd.errors import SettingError
from stickyd.settings.settings import read_some
from stickyd.settings.values import port_endpoint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path


def read_file(path: Path) -> dict[str, Any]:
    """
    Read a configuration file.

    :return: as :func:`stickyd.settings.settings.read_some`.
    :raises SettingError: if it cannot be read, is no TOML, or has a bad setting.
    """
    try:
        data = path.read_bytes()
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise SettingError(f"--config {path}: it is UTF-16; save it as UTF-8")
        found = tomllib.loads(data.decode("utf-8-sig"))
    except OSError as problem:
        raise SettingError(f"--config {path}: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise SettingError(f"--config {path}: not TOML: {problem}") from None
    where = f"{path}: "
    port = found.pop("port", None)
    given = read_some(found, where)
    if port is not None:
        endpoint = port_endpoint(f"{where}port", port)
        given["listen"] = (endpoint, *given.get("listen", ()))
    return given
