"""
The token of the dashboard.
"""

from __future__ import annotations

import os
import secrets

from stickyd.errors import OperatorError

SHORTEST_TOKEN = 16
"""
Characters that a token has at least.
"""


def new_token() -> str:
    """
    Make a token that nobody can guess.
    """
    return secrets.token_urlsafe(24)


def token_in(path: str) -> str:
    """
    Read the token from a file; one that is not there is made, for its owner alone.

    :raises OperatorError: if that cannot be, or others may read it.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path)
    except OSError as problem:
        raise OperatorError(f"--admin-token-file {path}: {problem.strerror}") from None
    token = new_token()
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{token}\n")
    return token


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            token = file.readline(4096).strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise OperatorError(f"--admin-token-file {path}: {problem}") from None
    if mode & 0o077:
        raise OperatorError(f"--admin-token-file {path}: others may read it; chmod 600 {path}")
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise OperatorError(
            f"--admin-token-file {path}: its first line is no token of {SHORTEST_TOKEN} or more"
            " characters of ASCII; remove the file to have one made"
        )
    return token
