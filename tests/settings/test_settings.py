"""
Settings and the command line: what is accepted, and what an operator reads otherwise.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from stickyd.affinity.address import IpKey, TextKey
from stickyd.errors import SettingError
from stickyd.settings import Settings
from stickyd.settings.options import Options
from stickyd.settings.reload import fixed
from stickyd.settings.settings import rules

#: An application that gets sessions of ours.
SESSIONS = ("--asgi", "a:b", "--asgi-sessions", "on")


def parse(*arguments: str) -> Settings:
    """
    The settings of a command line.
    """
    options = Options()
    options.parseOptions(list(arguments))
    return options.settings


def complaint(*arguments: str) -> str:
    """
    The line that a bad command line ends with.
    """
    with pytest.raises(SystemExit) as ended:
        parse(*arguments)
    line = str(ended.value)
    assert "\n" not in line
    return line


def test_defaults_are_valid() -> None:
    """
    Every default passes its own rule.
    """
    for name, (rule, default) in rules().items():
        if (name, default) != ("workers", 0):
            assert rule.read(name, default, "--") == default


def test_every_setting_is_explained_in_its_group() -> None:
    """
    Each setting has a text for the operator, and those of one group stand together.
    """
    assert all(rule.help and rule.group for rule, _ in rules().values())
    groups = [rule.group for rule, _ in rules().values()]
    assert len([*groupby(groups)]) == len(set(groups))


def test_help_is_grouped() -> None:
    """
    ``--help`` shows each setting below the heading of its group.
    """
    heading, found = "", {}
    for line in str(Options()).splitlines():
        if match := re.fullmatch(r"(\S.*):", line):
            heading = match[1]
        elif match := re.match(r" +(?:-\w, )?--([a-z0-9-]+)", line):
            found[match[1]] = heading
    for name, (rule, _) in rules().items():
        assert found[name] == rule.group
    assert found["config"] == found["help"] == found["port"] == "This command"


def test_nothing_given_is_the_defaults() -> None:
    """
    Without options the settings are those of the table.
    """
    assert parse() == Settings()


def test_settings_survive_the_way_to_the_worker() -> None:
    """
    What a worker reads is what the primary decided.
    """
    for settings in (Settings(), parse("--workers", "3", "--stop-timeout", "1.5", "-p", "0")):
        assert Settings.from_json(settings.to_json()) == settings


def test_ports_and_endpoints_add_up() -> None:
    """
    --port is a TCP endpoint; --listen can be repeated.
    """
    settings = parse("--port", "80", "--listen", "unix:/run/a.sock", "--listen", "tcp6:81")
    assert settings.listen == ("tcp:80", "unix:/run/a.sock", "tcp6:81")


def test_help_names_every_option_and_its_default() -> None:
    """
    The help has a line for each setting, with the default that stands in the table.
    """
    text = " ".join(str(Options()).split())
    for name in rules():
        assert f"--{name}=" in text
    assert "[NAME, default: rendezvous]" in text
    assert "[default: tcp:3000]" in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--port", "70000"), "--port: '70000' is not a port number from 0 to 65535"),
        (("--port", "http"), "--port: 'http' is not a port number from 0 to 65535"),
        (("--workers", "0"), "--workers: '0' is not a whole number from 1 to 256"),
        (("--workers", "x"), "--workers: 'x' is not a whole number from 1 to 256"),
        (("--workers", "257"), "--workers: '257' is not a whole number from 1 to 256"),
        (
            ("--placement", "rendevous"),
            "did you mean 'rendezvous'? known: rendezvous, least, modulo",
        ),
        (("--stick-limit", "9"), "--stick-limit means nothing to the rendezvous placement"),
        (("--stop-timeout", "-1"), "--stop-timeout: '-1' is not a number of seconds of at least 0"),
        (("--stop-timeout", "nan"), "--stop-timeout: 'nan' is not a number of seconds"),
        (("--wrokers", "4"), "option --wrokers not recognized"),
        (
            ("--tls", "a.pem", "--overflow", "503"),
            "--overflow 503 is plain HTTP, which a TLS client cannot read",
        ),
        (("--http2", "on"), "--http2 on needs --tls"),
        (
            ("--tls", "a.pem", "--http2", "on", "--asgi", "a:b"),
            "--http2 means nothing to --asgi; it is for --resource and --wsgi and --wsgi-factory",
        ),
        (("--protocol", "a:b", "--access-log", "-"), "--access-log means nothing to --protocol"),
        (("--head-bytes", "1"), "--head-bytes: '1' is not a whole number from 64 to 65536"),
        (("--idle-timeout", "0"), "--idle-timeout: '0' is not a number of seconds of at least 1"),
        (("surplus",), "unexpected argument 'surplus'"),
        (("--config", "/nonexistent.toml"), "--config /nonexistent.toml: No such file"),
    ],
)
def test_bad_command_line_gets_one_line(arguments: tuple[str, ...], line: str) -> None:
    """
    Each mistake is answered by one line that says what is wrong and what to write.
    """
    said = complaint(*arguments)
    assert said.startswith("stickyd: ")
    assert line in said


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--affinity", "coookie:a"), "did you mean cookie? Write for example cookie:stickyd"),
        (("--affinity", "ip/24/56/1"), "is not an ip key; write ip, ip/24"),
        (("--affinity", "header:X User"), "'X User' is not a name of a header"),
        (("--trust", "10.0.0.1/8"), "write 10.0.0.0/8 for the network"),
        (("--proxy-protocol", "on"), "name your proxies with --trust"),
        (("--proxy-protocol", "yes"), "'yes' is unknown; known: off, on"),
        (("--cookie-path", "/a"), "--cookie-path means nothing without a cookie"),
        (("--affinity", "cookie:a", "--cookie-path", "a"), "write /a"),
        (("--resource", "a:b", "--session-cookie", "a b"), "'a b' is not a name of a cookie"),
        (("--resource", "a:b", "--session-cookie", ""), "'' is not a name of a cookie"),
        (
            ("--resource", "a:b", "--session-cookie", "a", "--affinity", "cookie:a,ip"),
            "--session-cookie a: --affinity cookie:a would overwrite it",
        ),
        (
            ("--resource", "a:b", "--session-cookie", "a", "--affinity", "cookie:a_SECURE"),
            "--session-cookie a: --affinity cookie:a_SECURE would overwrite it",
        ),
        (("--wsgi", "a:b", "--session-cookie", "a"), "means nothing to --wsgi"),
        (("--affinity", "cookie:a", "--cookie-domain", "a;b"), "cannot stand in a Set-Cookie"),
        (
            ("--affinity", "cookie:a", "--cookie-samesite", "none", "--cookie-secure", "never"),
            "browsers drop such a cookie",
        ),
        (("--asgi-sessions", "on"), "--asgi-sessions means nothing to the demonstration"),
        (("--asgi-sessions", "yes"), "'yes' is unknown; known: off, on"),
        (("--asgi", "a:b", "--session-cookie", "sid"), "without --asgi-sessions on"),
        ((*SESSIONS, "--session-cookie", "a b"), "is not a name of a cookie"),
        ((*SESSIONS, "--session-cookie", "a", "--affinity", "cookie:a"), "would overwrite it"),
        ((*SESSIONS, "--affinity", "cookie:session_SECURE"), "would overwrite it"),
        ((*SESSIONS, "--cookie-secure", "never"), "Secure over TLS in any case"),
        ((*SESSIONS, "--cookie-samesite", "none"), "write --cookie-secure always"),
        ((*SESSIONS, "--cookie-path", "a"), "write /a"),
        (("--head-bytes", "63"), "is not a whole number from 64 to 65536"),
    ],
)
def test_bad_affinity_gets_one_line(arguments: tuple[str, ...], line: str) -> None:
    """
    So does each mistake about who clients are and who is believed.
    """
    assert line in complaint(*arguments)


def test_lists_are_taken_apart(tmp_path: Path) -> None:
    """
    On the command line a list is one text, or several options; in a file it may be a list.
    """
    line = parse(
        "--affinity", r"path:/(a{1\,2}),ip", "--trust", "10.0.0.0/8,::1", "--trust", "unix"
    )
    assert line.affinity == ("path:/(a{1,2})", "ip")
    assert line.trust == ("10.0.0.0/8", "::1", "unix")
    file = parse(
        *toml(tmp_path, "affinity = ['path:/(a{1,2})', 'ip']\ntrust = '10.0.0.0/8,::1,unix'")
    )
    assert file == line
    assert Settings.from_json(line.to_json()) == line
    assert "10.0.0.7" in line.networks
    assert str(line.keys) == r"path:/(a{1\,2}),ip/32/64"


def test_address_counts_as_the_placement_has_it() -> None:
    """
    The Node program hashes the address as text.
    """
    keys = [parse("--placement", name).keys.keys[0] for name in ("rendezvous", "modulo")]
    assert [type(key) for key in keys] == [IpKey, TextKey]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ((), "503"),
        (("--tls", "a.pem"), "close"),
        (("--tls", "a.pem", "--overflow", "reset"), "reset"),
        (("--protocol", "a:b"), "close"),
        (("--protocol", "a:b", "--overflow", "503"), "503"),
    ],
)
def test_overflow_answer_is_one_that_clients_can_read(
    arguments: tuple[str, ...], answer: str
) -> None:
    """
    By default HTTP clients get a 503, and those of TLS and of other protocols are closed.
    """
    assert parse(*arguments).refusal == answer


def test_certificates_add_up(tmp_path: Path) -> None:
    """
    --tls can be repeated, and be a list in the file; the command line wins.
    """
    assert parse("--tls", "a.pem", "--tls", "b.pem,b.key").tls == ("a.pem", "b.pem,b.key")
    config = toml(tmp_path, 'tls = ["c.pem", "d.pem"]')
    assert parse(*config).tls == ("c.pem", "d.pem")
    assert parse(*config, "--tls", "a.pem").tls == ("a.pem",)


def test_tls_comes_and_goes_by_a_restart_only() -> None:
    """
    A reload may name other certificates, but not begin or end TLS.
    """
    plain, tls, other = parse(), parse("--tls", "a.pem"), parse("--tls", "b.pem")
    assert "tls" not in fixed(tls, other)
    for former, wanted in ((plain, tls), (tls, plain)):
        assert {"tls", "http2"} <= fixed(former, wanted).keys()
    http2 = parse("--tls", "a.pem", "--http2", "on")
    assert http2.keeping(plain, fixed(plain, http2)).tls == ()


def toml(tmp_path: Path, text: str) -> tuple[str, str]:
    """
    The options that read a file of this text.
    """
    file = tmp_path / "stickyd.toml"
    file.write_text(text)
    return "--config", str(file)


def test_file_sets_and_command_line_wins(tmp_path: Path) -> None:
    """
    The file has the same names, with - or _; the command line has the last word.
    """
    config = toml(
        tmp_path, 'port = 81\nworkers = 3\nstop_timeout = 2\nqueue-limit = 7\nlisten = "tcp6:82"\n'
    )
    settings = parse(*config, "--workers", "4")
    assert settings.listen == ("tcp:81", "tcp6:82")
    assert (settings.workers, settings.stop_timeout, settings.queue_limit) == (4, 2.0, 7)
    assert parse(*config, "--port", "90").listen == ("tcp:90",)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("wrokers = 3", "wrokers: there is no such setting; did you mean 'workers'?"),
        ("zzzz = 3", "zzzz: there is no such setting; known are listen, workers"),
        ("workers = [3]", "workers: [3] is not a whole number from 1 to 256"),
        ("workers = true", "workers: True is not a whole number"),
        ("workers = 2.5", "workers: 2.5 is not a whole number"),
        ("listen = 3", "listen: expected text or a list of texts, not 3"),
        ("resource = 3", "resource: expected text, not 3"),
        ("port = 'x'", "port: 'x' is not a port number"),
        ("workers =", "not TOML: "),
    ],
)
def test_bad_file_gets_one_line_with_its_name(tmp_path: Path, text: str, line: str) -> None:
    """
    A mistake in the file is shown with the file's name.
    """
    config = toml(tmp_path, text)
    said = complaint(*config)
    assert config[1] in said
    assert line in said


def test_workers_can_be_automatic(tmp_path: Path) -> None:
    """
    ``auto`` is one worker for each CPU, on the command line and in the file.
    """
    assert parse("--workers", "auto").workers == 0
    assert parse(*toml(tmp_path, 'workers = "auto"')).workers == 0


@pytest.mark.parametrize("value", [float("nan"), None, "1 s"])
def test_numbers_are_numbers(value: Any) -> None:
    """
    What no comparison can place within the bounds is refused.
    """
    with pytest.raises(SettingError):
        Settings.read({"stop_timeout": value})


def test_sessions_in_redis_need_an_asyncio_loop() -> None:
    """
    The reactor without one is refused with what to write.
    """
    line = complaint("--sessions", "redis+cluster://:s3cret@db", "--worker-reactor", "epoll")
    assert "--sessions redis+cluster://***@db: sessions in Redis need an asyncio loop; " in line
    assert "write --worker-reactor uvloop or asyncio instead of epoll" in line
