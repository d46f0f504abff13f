"""
Fault 48: every command and configuration that the documentation prints does what it says there.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.client import Client
from tests.system.printing import PAGES, ROOT, Printed, blocks, commands
from tests.system.proxies import haproxy_printed, nginx_printed
from tests.system.server import Server, environment
from tests.system.websocket import WebSocket
from tests.tls_harness import write_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.conftest import Start

#: Where the applications are that the pages name.
SITE = ROOT / "tests" / "system" / "printed"

#: What another test runs, or what only a machine of one's own can.
ELSEWHERE = (
    r"pip install |python3 -m venv |/opt/stickyd/bin/",  # tests/test_packaging.py
    r"cp tap/|systemctl |install -d ",  # test_units_are_sound_to_systemd, below
    r"python -m benchmarks\.",  # the smoke runs of `make bench`
    r"make ",  # test_makefile_has_every_target, below
    r"openssl |mkdir |\(umask ",  # test_secret_is_made_as_printed, below
    r"stickyctl ",  # tests/system/test_stickyctl.py
    r"python -m stickyd explain",  # test_explanations_are_those_printed, below
    r"python -m stickyd selftest",  # tests/system/test_selftest.py
    r"curl ",  # test_counts_are_those_printed, below
)

ALL = [command for page in PAGES for command in commands(page)]


def starting(options: str) -> list[Printed]:
    """
    The commands that start a server.
    """
    return [command for command in ALL if re.match(options, command.text)]


SERVERS = starting(r"twistd .*\bstickyd\b(?!.*:rot\b)")


def test_every_printed_command_is_tried() -> None:
    """
    No command stands in a page that no test knows.
    """
    known = {str(command) for command in SERVERS}
    unknown = [
        str(command)
        for command in ALL
        if str(command) not in known
        and not re.match(
            r"twistd (-n )?(--pidfile= )?stickyd .*:rot\b|twistd stickyd --help", command.text
        )
        and not any(re.match(pattern, command.text) for pattern in ELSEWHERE)
    ]
    assert not unknown, unknown
    assert len(SERVERS) >= 15, SERVERS


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """
    A directory with the applications that the pages name, and the files.
    """
    shutil.copytree(SITE, tmp_path, dirs_exist_ok=True)
    for folder in ("public", "srv/www", "etc/stickyd", "etc/tls", "run/stickyd"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("public", "srv/www"):
        (tmp_path / folder / "index.html").write_text("shop\n")
    secret = tmp_path / "etc/stickyd/secret"
    secret.write_text("0123456789abcdef" * 4 + "\n")
    secret.chmod(0o600)
    certificate, key = write_certificate(tmp_path / "etc/tls", "shop", "localhost").split(",")
    (tmp_path / "etc/tls/both.pem").write_text(
        Path(certificate).read_text() + Path(key).read_text()
    )
    return tmp_path


def at_home(text: str, site: Path) -> str:
    """
    The text with the paths of the machine's root changed into those of a directory.
    """
    return re.sub(r"(?<![\w.])/(etc|srv|run)/", rf"{site}/\1/", text)


@pytest.mark.parametrize("command", SERVERS, ids=str)
def test_server_starts_as_printed(command: Printed, site: Path) -> None:
    """
    Each command that starts a server starts one, on a port that is free here, and it answers.
    """
    words = shlex.split(at_home(command.text, site))
    twisted = words[1 : words.index("stickyd")]
    options = words[words.index("stickyd") + 1 :]
    # As printed, twistd leaves no file behind.
    assert twisted == ["-n", "--pidfile="], command
    for name in ("--port", "--listen"):
        if name in options:
            del options[options.index(name) : options.index(name) + 2]
    server = Server(*options, directory=site)
    try:
        server.wait_until_ready()
        with Client(server.target) as client:
            stream = client.socket
            if "--tls" in options:
                stream = _unverified().wrap_socket(stream, server_hostname="localhost")
            if "--protocol" in options:
                assert stream.recv(64).startswith(b"welcome to ")
            else:
                stream.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert re.match(rb"HTTP/1\.1 (200|40[46]) ", stream.recv(64)), command
            stream.close()
        server.stop()
    finally:
        server.destroy()
    assert not list(site.glob("twistd.*"))


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_mistake_is_told_as_printed() -> None:
    """
    The quickstart's misspelt application is told in the line that stands there.
    """
    (command,) = starting(r"twistd .*:rot\b")
    words = shlex.split(command.text)
    outcome = subprocess.run(
        [str(Path(sys.executable).with_name(words[0])), *words[1:]],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    (printed,) = [line for line in command.output if line]
    assert outcome.returncode != 0
    # What a busy machine takes long for is not what is printed.
    said = re.sub(r"^stickyd: importing .*\n", "", outcome.stderr)
    assert said == printed.replace("/srv/shop", str(ROOT)) + "\n"


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_counts_are_those_printed(page: str, start: Start) -> None:
    """
    The demonstration counts as the pages show, and the workers' pids are as alike as there.
    """
    server = start(workers=2)
    pids: dict[str, str] = {}
    asked = [command for command in commands(page) if command.text.startswith("curl ")]
    assert len(asked) == 4
    for command in asked:
        words = shlex.split(command.text.replace(":3000", f":{server.port}"))
        if "--interface" in words:
            # Any address that belongs to the other worker: which it is depends on nothing.
            words[words.index("--interface") + 1] = _address_of_another(server, pids)
        answer = subprocess.run(
            [*words, "--silent"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        (printed,) = [line for line in command.output if line]
        found, expected = (re.fullmatch(r"Worker (\d+) (.*)", t) for t in (answer.strip(), printed))
        assert found is not None
        assert expected is not None
        assert found[2] == expected[2]
        assert pids.setdefault(expected[1], found[1]) == found[1]
    assert len(set(pids.values())) == len(pids)


def _address_of_another(server: Server, pids: dict[str, str]) -> str:
    """
    An address that has not asked yet and whose worker is none of these.
    """
    for number in range(2, 250):
        source = f"127.0.1.{number}"
        slot = subprocess.run(
            [sys.executable, "-m", "stickyd", "explain", "--workers", "2", "--address", source],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.split()[1]
        if str(server.worker(int(slot))) not in pids.values():
            return source
    raise AssertionError("every address belongs to one worker")


def test_explanations_are_those_printed(site: Path) -> None:
    """
    ``python -m stickyd explain`` says what the page says, computed and of a running server.
    """
    for command in starting("python -m stickyd explain"):
        if "--control" not in command.text:
            assert _explained(command.text, site).split() == " ".join(command.output).split()
            continue
        server = Server("--control", str(site / "run/stickyd/control"), workers=3, directory=site)
        try:
            server.wait_until_ready()
            said = _explained(command.text, site)
            assert re.match(r"slot (\d): worker (\d+), serving\n  ip/32/64: the key is ", said)
            server.stop()
        finally:
            server.destroy()


def _explained(command: str, site: Path) -> str:
    words = shlex.split(at_home(command.replace("PATH", "/run/stickyd/control"), site))
    return subprocess.run(
        [sys.executable, *words[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def test_makefile_has_every_target() -> None:
    """
    Each ``make`` that is printed is one that the Makefile knows.
    """
    for command in starting("make "):
        subprocess.run(
            ["make", "-n", *shlex.split(command.text)[1:]],
            cwd=ROOT,
            capture_output=True,
            timeout=60,
            check=True,
        )


@pytest.mark.parametrize("page", ["docs/affinity.md", "tap/README.md"])
def test_secret_is_made_as_printed(page: str, tmp_path: Path) -> None:
    """
    The lines that make a secret make one that is long enough, in a directory that they make
    too, and for nobody else to read.
    """
    made = [
        command.text
        for command in commands(page)
        if re.match(r"(mkdir -p |install -d |\(umask )", command.text)
    ]
    assert made
    for line in made:
        (tmp_path / "etc").mkdir(exist_ok=True)
        (tmp_path / "srv").mkdir(exist_ok=True)
        script = re.sub(r"(?<![\w.])/(etc|srv)/", rf"{tmp_path}/\1/", line)
        subprocess.run(["/bin/sh", "-ec", script], check=True, timeout=60)
    secret = tmp_path / "etc/stickyd/secret"
    assert len(secret.read_text().strip()) >= 64
    assert secret.stat().st_mode & 0o077 == 0


def test_units_are_sound_to_systemd(tmp_path: Path) -> None:
    """
    Systemd finds nothing wrong with the units, and what the service names is made by a line of
    ``tap/README.md``.
    """
    service = (ROOT / "tap/stickyd.service").read_text()
    made = " ".join(command.text for command in commands("tap/README.md"))
    for path in re.findall(r"(?<![\w.])(/(?:etc|srv|opt)/stickyd)\b", service):
        assert path in made, path
    program = tmp_path / "twistd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in ("stickyd.socket", "stickyd.service"):
        text = (ROOT / "tap" / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/stickyd/bin/twistd", str(program)))
    outcome = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "stickyd.service")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    # A directory that is a mount of the test's machine is none of the unit's business.
    told = [line for line in outcome.stderr.splitlines() if "stickyd" in line]
    # systemd 252 does not know notify-reload yet, as the unit says.
    told = [line for line in told if "notify-reload" not in line]
    assert not told, told


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")])
def test_configuration_file_is_accepted(page: str, site: Path) -> None:
    """
    Each configuration file that is printed passes ``--check``, where its application is.
    """
    for number, block in enumerate(blocks(page, "toml")):
        file = site / f"{number}.toml"
        file.write_text(at_home(block, site))
        command = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "stickyd"]
        subprocess.run(
            [*command, "--config", str(file), "--check"],
            cwd=site,
            env=environment(PYTHONPATH=f"{ROOT}:{ROOT / 'docs/examples'}"),
            check=True,
            timeout=60,
        )


def _proxied() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for language in ("nginx", "haproxy"):
            for block in blocks(page, language):
                yield language, block


@pytest.mark.parametrize(("language", "block"), list(_proxied()), ids=lambda text: text[:7])
def test_proxy_carries_scheme_host_client_and_websockets(
    language: str, block: str, site: Path
) -> None:
    """
    Behind the proxies that are printed the application sees the client's scheme, host and
    address, its cookie is Secure, and WebSockets go through.
    """
    options = ["--asgi", "shop.main:app", "--affinity", "cookie:stickyd", "--trust", "127.0.0.1"]
    if "send-proxy" in block:
        options += ["--proxy-protocol", "on"]
    server = Server(*options, directory=site)
    proxy = nginx_printed if language == "nginx" else haproxy_printed
    try:
        server.wait_until_ready()
        with proxy(site, at_home(block, site), server.target) as front:
            host = f"localhost:{front.target[1]}"
            with Client(front.target, source="127.0.0.9") as client:
                client.socket = _unverified().wrap_socket(
                    client.socket, server_hostname="localhost"
                )
                client.socket.sendall(
                    f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
                )
                response = client.response()
                told = json.loads(response.read())
            assert told == {"scheme": "https", "host": host, "client": "127.0.0.9"}
            assert "; Secure" in response.headers["Set-Cookie"]
            with WebSocket(front.target, context=_unverified()) as socket:
                assert socket.say("hello") == "wss hello"
        server.stop()
    finally:
        server.destroy()
