"""
An operator's mistake: one line that says what is wrong, no traceback, nothing left.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.system.processes import eventually, processes_marked, state_of
from tests.system.server import ROOT, environment, twistd

if TYPE_CHECKING:
    from pathlib import Path

#: The log lines of a start that goes well, which may come before: where is listened, and the
#: like.  What an error prints while twistd starts goes through
#: the same log.
_START_UP = re.compile(r"^\d\S+ stickyd   (?!warning|error|critical)")
_LOGGED = re.compile(r"^\d\S+ stickyd   error: ")

APPS = "tests.system.broken"

#: Takes root's rights away and leaves it its files, among which the interpreter may be.
POWERLESS = ("setpriv", "--bounding-set=-all") if os.geteuid() == 0 else ()


def run(*arguments: str, before: tuple[str, ...] = (), path: str = "") -> tuple[int, list[str]]:
    """
    Run ``twistd -n stickyd`` until it gives up; check that no process of it is left.

    :param before: the command that runs it.
    :param path: one more directory to import from.
    :return: its exit code, and what it wrote but for twistd's own lines.
    """
    mark = str(uuid.uuid4())
    surroundings = environment(STICKYD_TEST=mark)
    surroundings["PYTHONPATH"] += os.pathsep + path
    done = subprocess.run(
        [*before, *twistd("-n", "--pidfile=", "stickyd", *arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=surroundings,
        cwd=ROOT,
        text=True,
        timeout=30,
    )
    assert processes_marked(f"STICKYD_TEST={mark}") == []
    lines = [line for line in done.stdout.splitlines() if not _START_UP.search(line)]
    # What a busy machine takes long for.
    lines = [line for line in lines if not line.startswith("stickyd: importing ")]
    return done.returncode, [_LOGGED.sub("stickyd: ", line) for line in lines]


def complaint(*arguments: str, before: tuple[str, ...] = (), path: str = "") -> str:
    """
    The one line that a mistake is answered with; behind the traceback, if it is the
    application's.
    """
    code, lines = run(*arguments, before=before, path=path)
    # That of a syntax error has only the place.
    if lines[0].startswith(("Traceback", "  File ")):
        assert len(lines) > 2
        # What led to the application's own first line is of no interest.
        assert str(ROOT / "stickyd") not in "\n".join(lines)
        lines = lines[-1:]
    assert len(lines) == 1, "\n".join(lines)
    assert code > 0
    assert lines[0].startswith("stickyd: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "65536"], "'65536' is not a port number from 0 to 65535"),
        (["--port", "-1"], "'-1' is not a port number"),
        (["--port", "http"], "'http' is not a port number"),
        (["--listen", "tcp:65536"], "65536 is not a port from 0 to 65535"),
        (["--listen", "nonsense"], "--listen nonsense: not an endpoint"),
        (["--listen", "carrier-pigeon:80"], "--listen carrier-pigeon:80: not an endpoint"),
        (["--listen", "tcp:"], "--listen tcp:: not an endpoint"),
        (["--listen", "tcp:0:colour=red"], "--listen tcp:0:colour=red: not an endpoint"),
        (["--listen", ""], "--listen : not an endpoint"),
        (["--listen", "ssl:443:privateKey=key.pem"], "ssl: endpoints read from the connection"),
        (["--listen", "unix:/no/such/directory/socket"], "No such file or directory"),
        (["--listen", "tcp:0:interface=203.0.113.7"], "this machine has no such address"),
        (["--listen", "systemd:domain=INET:index=0"], "LISTEN_FDS"),
        (["--workers", "0"], "--workers: '0' is not a whole number from 1 to 256"),
        (["--workers", "257"], "--workers: '257' is not a whole number from 1 to 256"),
        (["--workers", "x"], "--workers: 'x' is not a whole number from 1 to 256"),
        (["--workers", "1.5"], "--workers: '1.5' is not a whole number from 1 to 256"),
        (["--stop-timeout", "-1"], "--stop-timeout: '-1' is not a number of seconds"),
        (["--stop-timeout", "nan"], "--stop-timeout: 'nan' is not a number of seconds"),
        (["--affinity", "face"], "'face' is no key; write one of ip, sni, cookie"),
        (["--affinity", "ip/33"], "an IPv4 prefix length is 1 to 32, not 33"),
        (["--affinity", "ip/0"], "with an IPv4 prefix length of 0"),
        (["--affinity", "ip/24/129"], "an IPv6 prefix length is 1 to 128, not 129"),
        (["--affinity", "ip/x"], "'ip/x' is not an ip key"),
        (["--placement", "rendevous"], "did you mean 'rendezvous'?"),
        (["--overflow", "500"], "--overflow: '500' is unknown"),
        (["--worker-reactor", "select"], "--worker-reactor: 'select' is unknown"),
        (["--wrokers", "2"], "--wrokers"),
        (["--workers"], "--workers"),
        (["3000"], "unexpected argument '3000'; write --port 3000"),
        # Fault 47, as the next ones.
        (["-n"], "it is twistd's: write it before the word stickyd, as in twistd -n stickyd"),
        (["chat:app"], "unexpected argument 'chat:app'; write --asgi chat:app"),
        (["--worker", "2"], "not a unique prefix; did you mean --worker-reactor or --workers?"),
        (["--listen", "tcp6:3000:interface=::1"], r"write tcp6:3000:interface=\:\:1"),
        (["--asgi", "./app:root"], "./app is a file's name; write the module's, --asgi app:root"),
        (["--asgi", "ok.py:root"], "ok.py is a file's name; write the module's, --asgi ok:root"),
        (["--asgi", ""], "--asgi: expected MODULE:ATTRIBUTE, not nothing"),
        (
            ["--resource", f"{APPS}.parsing:root"],
            "from {root}/tests/system/broken/parsing.py, line",
        ),
        (["--config", "/no/such/file.toml"], "/no/such/file.toml: No such file or directory"),
        (["--resource", "nowhere"], "expected MODULE:ATTRIBUTE"),
        (["--resource", "no_such_module:root"], "there is no module 'no_such_module'"),
        (["--resource", f"{APPS}.nowhere:root"], f"there is no module '{APPS}.nowhere'"),
        (["--resource", f"{APPS}.wanting:root"], "No module named 'no_such_dependency'"),
        (["--resource", f"{APPS}.raising:root"], "ZeroDivisionError: division by zero"),
        (["--resource", f"{APPS}.quitting:root"], "SystemExit: 7"),
        (["--resource", f"{APPS}.vanishing:root"], "the application ended its process (3)"),
        (["--resource", f"{APPS}.attributes:missing"], "has no attribute 'missing'"),
        (["--resource", f"{APPS}.attributes:number"], "int is no twisted.web IResource"),
        (["--resource", f"{APPS}.attributes:fails"], "calling it failed: ValueError: not today"),
        (["--resource", f"{APPS}.attributes:quits"], "the application ended its process (7)"),
        (["--resource", f"{APPS}.attributes:strange"], "str is no twisted.web IResource"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes(arguments: list[str], says: str) -> None:
    """
    Each mistake on the command line is answered with one line that says what is wrong.
    """
    ports = ["--listen", "tcp:0:interface=127.0.0.1"]
    given = arguments if arguments[0] in ("--port", "--listen") else [*ports, *arguments]
    assert says.replace("{root}", str(ROOT)) in complaint(*given)


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("wrokers = 2", "wrokers: there is no such setting; did you mean 'workers'?"),
        ("[server]\nworkers = 2", "server: there is no such setting"),
        ("workers = 'many'", "workers: 'many' is not a whole number from 1 to 256"),
        ("workers = 2.5", "workers: 2.5 is not a whole number"),
        ("workers = true", "workers: True is not a whole number"),
        ("port = 70000", "port: 70000 is not a port number"),
        ("listen = 3000", "listen: expected text or a list of texts, not 3000"),
        ("resource = 5", "resource: expected text, not 5"),
        ("workers = ", "not TOML: Invalid value"),
        ("\xff", "not TOML"),
        # Fault 47, as the next ones.
        ("[stickyd]\nworkers = 2", "settings stand in no table: leave out [stickyd]"),
        ("\xff\xfew\0=\0", "it is UTF-16; save it as UTF-8"),
        ("bind = ':80'", "bind: there is no such setting; write listen tcp:PORT"),
    ],
)
def test_mistakes_in_the_file(toml: str, says: str, tmp_path: Path) -> None:
    """
    Each mistake in the configuration file is answered with one line that names the file.
    """
    file = tmp_path / "stickyd.toml"
    file.write_bytes(toml.encode("latin-1"))
    line = complaint("--config", str(file))
    assert says in line
    assert str(file) in line


def test_port_in_use() -> None:
    """
    A port that another program listens on is named, and what to do about it.
    """
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = complaint("--listen", f"tcp:{port}:interface=127.0.0.1")
    assert f"cannot listen on tcp:{port}:interface=127.0.0.1: Address already in use" in line
    assert "stop it or choose another port" in line


def test_second_port_in_use() -> None:
    """
    When the second of two endpoints cannot be had, the first is given up too.
    """
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = complaint(
            "--listen", "tcp:0:interface=127.0.0.1", "--listen", f"tcp:{port}:interface=127.0.0.1"
        )
    assert f"cannot listen on tcp:{port}" in line


def test_privileged_port() -> None:
    """
    A port below 1024 without the right to it is refused with the ways to get one.
    """
    line = complaint("--listen", "tcp:1:interface=127.0.0.1", before=POWERLESS)
    assert "Permission denied: ports below 1024 need root or CAP_NET_BIND_SERVICE" in line


def test_unreadable_file(tmp_path: Path) -> None:
    """
    A configuration file that may not be read is named.
    """
    file = tmp_path / "stickyd.toml"
    file.touch(mode=0)
    assert f"{file}: Permission denied" in complaint("--config", str(file), before=POWERLESS)


def test_syntax_error(tmp_path: Path) -> None:
    """
    An application that is no Python is answered with the place of the error.
    """
    file = tmp_path / "unparsable.py"
    file.write_text("root = \n")
    line = complaint("--resource", "unparsable:root", path=str(tmp_path))
    assert "SyntaxError: invalid syntax" in line
    assert line.endswith(f" ({file}, line 1)")  # Fault 47: there was a second place.


def test_check_of_a_sound_application() -> None:
    """
    ``--check`` says that all is well, and exits with code 0 without having listened.
    """
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, lines = run("--check", "--port", str(port), "--resource", "tests.system.apps:site")
    assert code == 0
    assert lines == ["stickyd: the settings are sound and the application imports"]


def test_fault_47_check_without_an_application() -> None:
    """
    Fault 47: ``--check`` says of no application that it imports where none is named.
    """
    code, lines = run("--check")
    assert code == 0
    (line,) = lines
    assert line.startswith("stickyd: the settings are sound; no application is named: the dem")


def test_fault_47_marks_of_editors(tmp_path: Path) -> None:
    """
    Fault 47: a byte order mark is no part of a configuration file, nor of a secret.
    """
    secret = tmp_path / "secret"
    secret.write_bytes(b"\xef\xbb\xbf" + b"s" * 15)
    secret.chmod(0o600)
    config = tmp_path / "stickyd.toml"
    config.write_bytes(b"\xef\xbb\xbfworkers = 2\r\naffinity = 'cookie:a'\r\n")
    code, _ = run("--check", "--config", str(config))
    assert code == 0
    line = complaint("--config", str(config), "--secret-file", str(secret))
    assert "15" in line or "16" in line  # too short without the mark
    secret.write_bytes(b"\xff\xfe" + b"s\0" * 30)
    line = complaint("--config", str(config), "--secret-file", str(secret))
    assert f"--secret-file {secret}: it is UTF-16; save it as UTF-8" in line


def launched(*arguments: str, **surroundings: str) -> subprocess.Popen[str]:
    """
    Run ``twistd`` without the options that tests usually give it.
    """
    return subprocess.Popen(
        [*POWERLESS, *twistd(*arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(**surroundings),
        cwd=ROOT,
        text=True,
        start_new_session=True,
        # What a shell starts in the background ignores it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize(
    ("options", "file"),
    [
        (["-n", "--pidfile={}/closed/twistd.pid"], "closed/twistd.pid: Permission denied"),
        (["-n", "--pidfile={}/none/pid"], "none/pid: there is no such directory"),
        (["--pidfile=", "--logfile={}/closed/log"], "closed/log: Permission denied"),
    ],
)
def test_fault_47_files_that_twistd_cannot_write(
    options: list[str], file: str, tmp_path: Path
) -> None:
    """
    Fault 47: a pid file or a log that cannot be written is one line, which says what to write.
    """
    (tmp_path / "closed").mkdir(mode=0o555)
    given = [option.format(tmp_path) for option in options]
    process = launched(*given, "stickyd", "--listen", "tcp:0:interface=127.0.0.1")
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.splitlines() == [said.rstrip("\n")], said
    assert said.startswith(f"stickyd: cannot write {tmp_path}/{file}; ")
    assert "twistd --" in said


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_fault_47_reader_that_has_seen_enough(arguments: list[str]) -> None:
    """
    Fault 47: ``twistd stickyd --help | head`` ends without a word.
    """
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        twistd("stickyd", *arguments),
        stdin=subprocess.DEVNULL,
        stdout=writing,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=ROOT,
        text=True,
        timeout=30,
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 0


def test_fault_47_interrupted_import(tmp_path: Path) -> None:
    """
    Fault 47: Ctrl-C while the application is tried ends in one line, and ends the import.
    """
    (tmp_path / "long_import.py").write_text(
        "import os, signal\nprint(os.getpid(), flush=True)\nsignal.pause()\n"
    )
    process = launched(
        "-n", "--pidfile=", "stickyd", "--asgi", "long_import:app", PYTHONPATH=f"{ROOT}:{tmp_path}"
    )
    assert process.stdout is not None
    with process.stdout as said:
        lines = (line for line in said if not line.startswith("stickyd: importing "))
        pid = int(next(lines))
        os.killpg(process.pid, signal.SIGINT)
        assert list(lines) == ["stickyd: interrupted while the application was tried\n"]
    assert process.wait(30) == 130
    assert eventually(lambda: state_of(pid) == "")


def test_check_warns() -> None:
    """
    ``--check`` tells beforehand what the log of a start would warn of.
    """
    code, lines = run("--check", "--affinity", "header:Mcp-Session-Id")
    assert code == 0
    assert any(line.startswith("stickyd: --affinity: header:Mcp-Session-Id:") for line in lines)


def test_check_of_a_broken_application() -> None:
    """
    ``--check`` says what is wrong with an application, and exits with another code.
    """
    assert "division by zero" in complaint("--check", "--resource", f"{APPS}.raising:root")


def test_help() -> None:
    """
    ``--help`` names every option, each with what it does.
    """
    code, lines = run("--help")
    assert code == 0
    text = "\n".join(lines)
    options = ["port", "listen", "workers", "resource", "affinity", "placement",
               "worker-reactor", "window", "queue-limit", "queue-timeout", "overflow",
               "start-timeout", "stop-timeout", "heartbeat", "backoff", "backoff-limit",
               "crash-limit", "config", "check", "version", "help"]  # fmt: skip
    for option in options:
        assert re.search(rf"--{option}=? +\S", text), f"--{option} is not explained:\n{text}"


def test_version() -> None:
    """
    ``--version`` names stickyd's own.
    """
    code, lines = run("--version")
    assert code == 0
    assert re.fullmatch(r"stickyd \d+\.\d+\.\d+\S*", "\n".join(lines))
