"""
Where the secrets come from.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.logger import capturedLogs

from stickyd.errors import SettingError
from stickyd.settings import Settings
from stickyd.system.secrets import Secrets

ONE = b"one secret of some length"
TWO = b"two secrets make a change"


def settings(path: Path | str = "", affinity: str = "cookie:stickyd,ip") -> Settings:
    """
    Settings that name a file.
    """
    return Settings.read({"secret_file": str(path), "affinity": affinity})


def secret_file(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    """
    A file of secrets.
    """
    path = directory / "secrets"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_each_line_is_a_secret(tmp_path: Path) -> None:
    """
    In their order; empty lines and white space around them do not count.
    """
    path = secret_file(tmp_path, b"\n" + ONE + b"\r\n\n  " + TWO + b"\t\n")
    with capturedLogs() as logs:
        assert Secrets().of(settings(path)) == (ONE, TWO)
    assert not logs


def test_file_is_read_anew_each_time(tmp_path: Path) -> None:
    """
    So that a reload takes a new secret up.
    """
    path = secret_file(tmp_path, ONE)
    secrets = Secrets()
    assert secrets.of(settings(path)) == (ONE,)
    secret_file(tmp_path, TWO + b"\n" + ONE)
    assert secrets.of(settings(path)) == (TWO, ONE)


def test_own_secret_stays(tmp_path: Path) -> None:
    """
    Without a file there is one that nobody can guess, the same over reloads, and after the
    primary has replaced itself.
    """
    secrets = Secrets()
    (own,) = secrets.of(settings())
    assert len(own) == 32
    assert secrets.of(settings()) == (own,)
    assert Secrets(secrets.own).of(settings()) == (own,)
    assert Secrets().of(settings()) != (own,)


@pytest.mark.parametrize("affinity", ["ip", "header:X-User", "learn:query:sid", "cookie:stickyd"])
def test_secrets_without_tokens(tmp_path: Path, affinity: str) -> None:
    """
    An application may ask for keys of it, and for ids that are signed, whatever its clients are
    told apart by.
    """
    secrets = Secrets()
    assert secrets.of(settings(affinity=affinity)) == (secrets.own,)
    assert secrets.of(settings(secret_file(tmp_path, ONE), affinity)) == (ONE,)
    with pytest.raises(SettingError, match="has 5 bytes"):
        secrets.of(settings(secret_file(tmp_path, b"short"), affinity))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "no secret is given"),
        (b"\n \n", "no secret is given"),
        (ONE + b"\nshort\n", "secret 2 has 5 bytes, which can be guessed"),
    ],
)
def test_bad_file_gets_one_line(tmp_path: Path, content: bytes, line: str) -> None:
    """
    It names the file and not the secret.
    """
    path = secret_file(tmp_path, content)
    with pytest.raises(SettingError) as caught:
        Secrets().of(settings(path))
    said = str(caught.value)
    assert said.startswith(f"--secret-file {path}: {line}")
    assert "\n" not in said
    assert "short" not in said


def test_missing_file_gets_one_line(tmp_path: Path) -> None:
    """
    With the reason that the system gives.
    """
    with pytest.raises(SettingError, match=r"secrets: No such file or directory$"):
        Secrets().of(settings(tmp_path / "secrets"))


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o640, 0), (0o644, 1), (0o602, 1)])
def test_open_file_is_warned_of(tmp_path: Path, mode: int, warnings: int) -> None:
    """
    A secret that any user can read or replace is none.
    """
    path = secret_file(tmp_path, ONE, mode)
    with capturedLogs() as logs:
        Secrets().of(settings(path))
    assert len(logs) == warnings
