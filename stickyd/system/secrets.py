"""
The secrets that sign tokens and that keys are derived from: those of ``--secret-file``, or one
that nobody knows.
"""

from __future__ import annotations

import codecs
import hashlib
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.logger import Logger

from stickyd.affinity.token import Signer
from stickyd.errors import SettingError

if TYPE_CHECKING:
    from stickyd.settings import Settings

_log = Logger()


class Secrets:
    """
    Gives the secrets, at the start and again at each reload.

    :ivar own: the one that is used without a file: the same for as long as the primary
        lives, so that a reload loses no client.
    """

    def __init__(self, own: bytes = b"") -> None:
        """
        :param own: that of a former self of this process.
        """
        self.own = own or secrets.token_bytes(32)

    @property
    def run(self) -> str:
        """
        What names this primary's life in tokens, upgrades included: eight hexadecimal digits.
        """
        return hashlib.blake2b(self.own, digest_size=4, person=b"stickyd.run").hexdigest()

    def of(self, settings: Settings) -> tuple[bytes, ...]:
        """
        Give the secrets that settings ask for: the first signs, all verify.

        :raises SettingError: if the file cannot be read, or a secret in it can be guessed.
        """
        # Whatever --affinity says: an application may ask for stickyd.secret() and stickyd.mint().
        if settings.secret_file:
            return _read(Path(settings.secret_file))
        return (self.own,)


def session_keys(settings: Settings) -> tuple[bytes, ...]:
    """
    Give the secrets that encrypt sessions: the first new ones, all of them read.

    :return: nothing if they are not encrypted.
    :raises SettingError: if the file cannot be read, or a secret in it can be guessed.
    """
    if not settings.session_key_file:
        return ()
    return _read(Path(settings.session_key_file), "--session-key-file", "read sessions")


def _read(
    path: Path, option: str = "--secret-file", gain: str = "choose a worker"
) -> tuple[bytes, ...]:
    """
    :param option: whose file it is.
    :param gain: what somebody can do who knows what is in it.
    """
    try:
        text = path.read_bytes()
        readable = path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH)
    except OSError as problem:
        raise SettingError(f"{option} {path}: {problem.strerror}") from None
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SettingError(f"{option} {path}: it is UTF-16; save it as UTF-8")
    # An editor's mark is no part of a secret, which other machines have without it.
    lines = text.removeprefix(codecs.BOM_UTF8).splitlines()
    found = tuple(line.strip() for line in lines if line.strip())
    try:
        Signer(found)
    except SettingError as problem:
        raise SettingError(str(problem).replace("--secret-file:", f"{option} {path}:")) from None
    if readable:
        _log.warn(
            "{option} {path}: any user of this machine can read it or write to it, and so"
            " {gain}; chmod 600 {path}",
            event="secret.readable",
            option=option,
            path=path,
            gain=gain,
        )
    return found
