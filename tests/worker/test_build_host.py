"""
What the settings make of TLS, limits and the access log, and what an operator reads if
they cannot.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

import stickyd
from stickyd.errors import OperatorError, SettingError
from stickyd.fleet.preflight import check_application
from stickyd.settings import Settings
from stickyd.worker import build_host
from tests.tls_harness import write_certificate

ROOT = Path(stickyd.__file__).parents[1]


def test_limits_are_those_of_the_settings() -> None:
    """
    Each setting reaches the limit that it is for; a body limit of 0 is none.
    """
    limits = build_host.http_limits(
        Settings.read(
            {
                "head_bytes": 1000,
                "head_fields": 7,
                "body_bytes": 9,
                "form_bytes": 8,
                "idle_timeout": 1,
                "head_timeout": 2,
                "body_timeout": 3,
            }
        )
    )
    assert (limits.head_bytes, limits.head_fields, limits.body_bytes) == (1000, 7, 9)
    assert limits.form_bytes == 8
    assert build_host.http_limits(Settings.read({"form_bytes": 0})).form_bytes is None
    assert (limits.idle, limits.head, limits.body, limits.target_bytes) == (1, 2, 3, 1000)
    assert build_host.http_limits(Settings.read({"body_bytes": 0})).body_bytes is None


@pytest.mark.parametrize(
    ("given", "offered"),
    [
        ({}, True),
        ({"http2": "on"}, True),
        ({"http2": "off"}, False),
        ({"wsgi": "a:b"}, True),
        ({"static": "a"}, True),
        ({"asgi": "a:b"}, False),
        ({"asgi_factory": "a:b"}, False),
        ({"protocol": "a:b"}, False),
    ],
)
def test_who_is_offered_http2(given: dict[str, str], offered: bool) -> None:
    """
    By default HTTP/2 is offered where it can be served; never without TLS.
    """
    assert build_host.offers_http2(Settings.read({"tls": "a.pem", **given})) == offered
    if given.get("http2") != "on":
        assert not build_host.offers_http2(Settings.read(given))


def test_http2_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without the packages ``auto`` goes without, and ``on`` says what to install.
    """

    def find_spec(name: str) -> ModuleSpec | None:
        return None if name == "h2" else ModuleSpec(name, None)

    monkeypatch.setattr(build_host, "find_spec", find_spec)
    assert not build_host.offers_http2(Settings.read({"tls": "a.pem"}))
    with pytest.raises(SettingError, match=r"needs h2.*: pip install 'stickyd\[http2\]'"):
        build_host.offers_http2(Settings.read({"tls": "a.pem", "http2": "on"}))


def test_plain_settings_have_no_tls() -> None:
    """
    Without ``--tls`` connections are plain.
    """
    assert build_host.server_tls(Settings(), Clock()) is None


def test_access_log_is_appended_to(tmp_path: Path) -> None:
    """
    What another worker has written stays; ``-`` is the standard output.
    """
    path = tmp_path / "access.log"
    for text in ("first\n", "second\n"):
        file = build_host.open_access_log(str(path))
        assert file is not None
        file.write(text)
        file.close()
    assert path.read_text() == "first\nsecond\n"
    assert build_host.open_access_log("") is None


def test_access_log_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """
    ``-`` is the standard output, which stays open.
    """
    file = build_host.open_access_log("-")
    assert file is not None
    file.write("one\n")
    file.reopen()
    file.close()
    sys.stdout.write("two\n")
    assert capsys.readouterr().out == "one\ntwo\n"


def test_access_log_is_opened_again(tmp_path: Path) -> None:
    """
    What was moved away is not written any more; if there can be no new file, it still is.
    """
    path = tmp_path / "folder" / "access.log"
    path.parent.mkdir()
    file = build_host.open_access_log(str(path))
    assert file is not None
    path.rename(tmp_path / "old.log")
    file.write("one\n")
    file.reopen()
    file.write("two\n")
    path.parent.rename(tmp_path / "moved")
    file.reopen()
    file.write("three\n")
    file.close()
    assert (tmp_path / "old.log").read_text() == "one\n"
    assert (tmp_path / "moved" / "access.log").read_text() == "two\nthree\n"


def test_access_log_that_cannot_be_opened(tmp_path: Path) -> None:
    """
    The line says which file, and why not.
    """
    with pytest.raises(SettingError, match=f"--access-log {tmp_path}: Is a directory; name"):
        build_host.open_access_log(str(tmp_path))


def refusal(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], *path: str) -> str:
    """
    Have a worker's process check settings, before a start.

    :return: what it refuses them for.
    """
    monkeypatch.setenv("PYTHONPATH", ":".join([*path, str(ROOT)]))
    said: list[str] = []
    try:
        check_application(Settings.read(settings), said.append)
    except OperatorError as problem:
        return str(problem)
    assert said == []
    return ""


def test_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    Without pyOpenSSL the check fails with one line that says what to install.
    """
    (tmp_path / "OpenSSL.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'OpenSSL'\", name='OpenSSL')\n"
    )
    pair = write_certificate(tmp_path, "a", "a.test")
    assert refusal(monkeypatch, {"tls": pair}, str(tmp_path)) == (
        "--tls needs OpenSSL, which is not installed: pip install 'stickyd[tls]'"
    )


def test_good_certificate_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    A check of good settings says nothing.
    """
    pair = write_certificate(tmp_path, "a", "a.test")
    assert not refusal(monkeypatch, {"tls": pair, "access_log": str(tmp_path / "log")})


def test_bad_certificate_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    A check of a certificate that is none fails with one line about it.
    """
    (tmp_path / "a.pem").write_text("nonsense")
    said = refusal(monkeypatch, {"tls": str(tmp_path / "a.pem")})
    assert said.startswith(f"TLS: '{tmp_path}/a.pem' holds no certificate in PEM form")
    assert "\n" not in said
