"""
What is said to those who write what another server, or nobody, understands (fault 47).
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.errors import SettingError
from stickyd.settings import Settings
from stickyd.settings.hints import OTHERS, argument_meant, endpoint_meant, meant
from stickyd.settings.options import Options
from stickyd.settings.settings import rules


def complaint(*arguments: str) -> str:
    """
    The line that a command line ends with.
    """
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(list(arguments))
    assert "\n" not in str(ended.value)
    return str(ended.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--worker", "2"], "did you mean --worker-reactor or --workers?"),
        (["--wrokers", "2"], "did you mean --workers?"),
        (["--stop_timeout", "2"], "did you mean --stop-timeout?"),
        (["--Workers", "2"], "did you mean --workers?"),
        (["-n"], "as in twistd -n stickyd"),
        (["--nodaemon"], "as in twistd --nodaemon stickyd"),
        (["--no-daemon"], "as in twistd --nodaemon stickyd"),
        (["--pidfile="], "as in twistd --pidfile stickyd"),
        (["--logfile", "x"], "as in twistd --logfile stickyd"),
        (["-b", ":80"], "write --listen tcp:PORT"),
        (["--bind", ":80"], "write --listen tcp:PORT"),
        (["--host", "::"], "write --listen tcp:PORT:interface=ADDRESS"),
        (["--uds", "x"], "write --listen unix:PATH"),
        (["-k", "gthread"], "leave it out: --asgi"),
        (["--worker-class", "gthread"], "leave it out: --asgi"),
        (["--threads", "4"], "write --wsgi-threads"),
        (["--graceful-timeout", "4"], "write --stop-timeout"),
        (["--timeout-keep-alive", "4"], "write --idle-timeout"),
        (["--ssl-keyfile", "x"], "write --tls CERTIFICATE,KEY"),
        (["--certfile", "x"], "write --tls CERTIFICATE,KEY"),
        (["--forwarded-allow-ips", "*"], "write --trust NETWORKS"),
        (["--proxy-headers"], "write --trust NETWORKS"),
        (["--factory"], "write --asgi-factory"),
        (["--reload"], "reload by SIGHUP"),
        (["--app-dir", "x"], "PYTHONPATH"),
        (["-D"], "start twistd without -n"),
        (["chat:app"], "write --asgi chat:app (or --wsgi"),
        (["my.chat:make()"], "write --asgi my.chat:make()"),
        (["3000"], "write --port 3000"),
        (["127.0.0.1:3000"], "write --listen tcp:3000:interface=127.0.0.1"),
        (["public/"], "write --static public/"),
        (["stickyd.toml"], "write --config stickyd.toml"),
        (["--workers"], "requires argument; write --workers N"),
        (["--port", "[::1]:80"], r"write --listen tcp6:80:interface=\:\:1"),
        (["--wsgi", ""], "--wsgi: expected MODULE:ATTRIBUTE, not nothing"),
    ],
)
def test_fault_47_command_line(arguments: list[str], says: str) -> None:
    """
    Each is one line that says what to write.
    """
    assert says in complaint(*arguments)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"port": 3000}, "port: there is no such setting; write listen = ['tcp:3000']"),
        ({"wrokers": 3}, "did you mean 'workers'?"),
        ({"stickyd": {"workers": 2}}, "settings stand in no table: leave out [stickyd]"),
        ({"threads": 3}, "write wsgi-threads"),
        ({"nodaemon": True}, "it is twistd's"),
    ],
)
def test_fault_47_settings_of_a_program(given: dict[str, object], says: str) -> None:
    """
    An embedding program reads the same, without dashes.
    """
    with pytest.raises(SettingError) as raised:
        Settings.read(given)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("3000", "tcp:3000"),
        (":3000", "tcp:3000"),
        ("*:3000", "tcp:3000"),
        ("localhost:3000", "tcp:3000:interface=localhost"),
        ("http://127.0.0.1:3000/", "tcp:3000:interface=127.0.0.1"),
        ("tcp://0.0.0.0:80", "tcp:80:interface=0.0.0.0"),
        ("[::1]:3000", r"tcp6:3000:interface=\:\:1"),
        ("tcp6:3000:interface=::1", r"tcp6:3000:interface=\:\:1"),
        ("tcp6:3000:interface=[fe80::1]", r"tcp6:3000:interface=fe80\:\:1"),
        ("tcp:port=80:interface=::", r"tcp6:80:interface=\:\:"),
        ("tcp:localhost:80", "tcp:80:interface=localhost"),
        ("/run/app.sock", "unix:/run/app.sock"),
        ("unix:///run/app.sock", "unix:/run/app.sock"),
        ("fd://3", "systemd:domain=INET:index=0"),
        ("tpc:3000", "tcp:3000"),
        ("http:3000", "tcp:3000"),
        ("nonsense", ""),
        ("", ""),
        (r"tcp6:3000:interface=\:\:1", ""),
        ("tcp:80", ""),
    ],
)
def test_fault_47_endpoints(text: str, endpoint: str) -> None:
    """
    Addresses as other servers have them become endpoints; what is right, or nothing, stays.
    """
    assert endpoint_meant(text) == endpoint


def test_every_hint_names_options_that_there_are() -> None:
    """
    What is recommended exists.
    """
    twistds = {"logfile", "pidfile", "listen"}
    for hint in OTHERS.values():
        for name in re.findall(r"--([a-z0-9-]+)", hint):
            assert name in rules() or name in twistds, hint
    assert not set(OTHERS) & set(rules())


@given(st.text(max_size=40))
def test_nothing_is_too_strange(text: str) -> None:
    """
    Whatever is written, something is said of it.
    """
    for said in (argument_meant(text), endpoint_meant(text), meant(text, rules())):
        assert isinstance(said, str)
