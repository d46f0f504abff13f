"""
TLS and HTTP/2 on a running server: certificates, resumption, reloads, tools that are not ours.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tests.system.client import Client
from tests.system.log import PATIENCE
from tests.system.placing import sources_of
from tests.system.processes import eventually
from tests.system.server import ROOT, environment, twistd
from tests.tls_harness import client_context, write_certificate

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from tests.system.conftest import Start
    from tests.system.gate import Gate
    from tests.system.server import Server

SITE = ("--resource", "tests.system.apps:site")


class Secure:
    """
    A TLS connection.  Use it in a ``with``.
    """

    def __init__(
        self,
        server: Server,
        source: str = "127.0.0.1",
        name: str = "a.test",
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._plain = Client(server.target, source)
        context = context or client_context()
        self.tls = context.wrap_socket(
            self._plain.socket, server_hostname=name, session=session, suppress_ragged_eofs=False
        )

    def send(self, path: str = "/") -> None:
        self.tls.sendall(f"GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())

    def response(self) -> HTTPResponse:
        response = HTTPResponse(self.tls)
        response.begin()
        return response

    def ask(self, path: str = "/") -> tuple[int, bytes]:
        self.send(path)
        with self.response() as response:
            return response.status, response.read()

    def names(self) -> list[str]:
        """
        Tell what the server's certificate is for.
        """
        encoded = self.tls.getpeercert(binary_form=True)
        assert encoded is not None
        extension = x509.load_der_x509_certificate(encoded).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        return extension.value.get_values_for_type(x509.DNSName)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.tls.close()


def pid_of(answer: tuple[int, bytes]) -> int:
    """
    The worker that the mirror answered from.
    """
    status, body = answer
    assert status == 200
    told: dict[str, Any] = json.loads(body)
    return int(told["pid"])


def run(*command: str) -> str:
    """
    Run a tool to its good end.
    """
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 3)
    assert outcome.returncode == 0, f"{command}: {outcome.stdout}\n{outcome.stderr}"
    return outcome.stdout


def test_sessions_are_resumed(start: Start, tmp_path: Path) -> None:
    """
    A client that comes back finds the worker that knows its TLS session, each time; with
    another worker, which does not, it shakes hands in full.
    """
    server = start(*SITE, "--tls", write_certificate(tmp_path, "a", "a.test"), workers=4)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context(version)
        for slot in range(4):
            here, elsewhere = (sources_of(s, 4, 1)[0] for s in (slot, (slot + 1) % 4))
            session = None
            for visit in range(3):
                with Secure(server, here, context=context, session=session) as client:
                    assert pid_of(client.ask("/mirror")) == server.worker(slot)
                    assert client.tls.session_reused == (visit > 0)
                    session = client.tls.session
            with Secure(server, elsewhere, context=context, session=session) as client:
                assert pid_of(client.ask("/mirror")) == server.worker((slot + 1) % 4)
                assert not client.tls.session_reused


def test_certificates_by_name(start: Start, tmp_path: Path) -> None:
    """
    Each host gets its certificate, and who asks for another the first.
    """
    pairs = [write_certificate(tmp_path, stem, f"{stem}.test") for stem in "ab"]
    server = start("--tls", pairs[0], "--tls", pairs[1], workers=1)
    for name, expected in (("a.test", "a.test"), ("b.test", "b.test"), ("c.test", "a.test")):
        with Secure(server, name=name) as client:
            assert client.names() == [expected]
            assert client.ask()[0] == 200


def test_reload_brings_new_certificates(start: Start, tmp_path: Path, gate: Gate) -> None:
    """
    After SIGHUP new connections get the new certificate, whichever worker they reach; a
    request under way is finished on its connection, and idle ones end in good order.
    """
    pair = write_certificate(tmp_path, "a", "old.test")
    server = start(*SITE, "--tls", pair, variables=gate.variables)
    with Secure(server) as busy, Secure(server) as idle:
        assert idle.ask("/mirror")[0] == 200
        busy.send("/held")
        gate.wait_for_arrival()
        write_certificate(tmp_path, "a", "new.test")
        server.process.send_signal(signal.SIGHUP)
        assert idle.tls.recv(1) == b""
        for slot in range(2):
            server.wait_for_successor(server.started[slot].pid)
        for slot in range(2):
            with Secure(server, sources_of(slot, 2, 1)[0]) as client:
                assert client.names() == ["new.test"]
                assert pid_of(client.ask("/mirror")) == server.worker(slot)
        gate.open()
        with busy.response() as response:
            assert response.status == 200
            response.read()


def test_bad_certificate_changes_nothing(start: Start, tmp_path: Path) -> None:
    """
    A reload with a file that went bad says so, and the workers serve on with the old one.
    """
    pair = write_certificate(tmp_path, "a", "a.test")
    server = start(*SITE, "--tls", pair)
    server.allow("Not reloaded")
    with Secure(server) as kept:
        before = pid_of(kept.ask("/mirror"))
        (tmp_path / "a.pem").write_text("nonsense")
        server.process.send_signal(signal.SIGHUP)
        said = server.log.wait_for(r"Not reloaded: (.*)")[1]
        assert said.startswith(f"TLS: '{tmp_path}/a.pem' holds no certificate in PEM form")
        assert pid_of(kept.ask("/mirror")) == before
        with Secure(server) as client:
            assert client.names() == ["a.test"]
            assert pid_of(client.ask("/mirror")) == before


def bad(folder: Path, kind: str) -> str:
    """
    Files with something wrong about them.
    """
    good = write_certificate(folder, "a", "a.test")
    other = write_certificate(folder, "b", "b.test")
    certificate, key = good.split(",")
    if kind == "missing":
        return str(folder / "none.pem")
    if kind == "key of another":
        return f"{certificate},{other.split(',')[1]}"
    if kind == "not PEM":
        (folder / "a.pem").write_bytes(b"\0\1\2")
    if kind == "encrypted":
        write_certificate(folder, "a", "a.test", password=b"secret")
    if kind == "key missing":
        return certificate
    return f"{certificate},{key}"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "cannot read .*none.pem' \\(No such file or directory\\)"),
        ("key of another", "the key in .* does not belong to the first certificate"),
        ("not PEM", "holds no certificate in PEM form"),
        ("encrypted", "is encrypted, and nobody is there to type a password"),
        ("key missing", "holds no private key in PEM form"),
    ],
)
def test_bad_files_are_told_at_the_start(tmp_path: Path, kind: str, reason: str) -> None:
    """
    A certificate that cannot be used ends the start, and ``--check``, with one line.
    """
    check = kind != "missing"
    command = twistd("-n", "--pidfile=", "stickyd", "--listen", "tcp:0:interface=127.0.0.1",
                     "--tls", bad(tmp_path, kind), *["--check"] * check)  # fmt: skip
    outcome = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert outcome.returncode == 1
    [line] = [line for line in outcome.stderr.splitlines() if "stickyd:" in line]
    assert re.search(reason, line), outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("application", ["resource", "asgi"])
def test_refusals_are_alike(start: Start, application: str) -> None:
    """
    The bounds of the command line hold for every kind of application.
    """
    name = {"resource": "site", "asgi": "asgi_site"}[application]
    server = start(
        f"--{application}", f"tests.system.apps:{name}", "--head-bytes", "600", "--body-bytes",
        "1000", "--head-fields", "20", "--idle-timeout", "1", "--head-timeout", "1", workers=1,
    )  # fmt: skip
    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    for request, status in (
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 700 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 25 + b"\r\n", 431),
        (head + b"Content-Length: 1001\r\n\r\n", 413),
        (head + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (head + b"X : y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHo", 408),
        (b"", None),
    ):
        with Client(server.target) as client:
            client.socket.sendall(request)
            if status is None:
                assert client.at_end()
                continue
            with client.response() as response:
                assert response.status == status, request
                response.read()
            assert client.at_end()


def test_http2_tools(start: Start, tmp_path: Path) -> None:
    """
    Curl and h2load speak HTTP/2 with a worker; curl has HTTP/1.1 if it wants that.
    """
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "big").write_bytes(bytes(range(256)) * 4000)
    server = start(
        "--static", str(tmp_path / "files"), "--tls", write_certificate(tmp_path, "a", "a.test")
    )
    url = f"https://127.0.0.1:{server.port}/big"
    told = "%{http_version} %{http_code} %{size_download}"
    for option, version in (("--http2", "2"), ("--http1.1", "1.1")):
        command = ("curl", "-sk", option, "-o", str(tmp_path / "got"), "-w", told, url)
        assert run(*command) == f"{version} 200 1024000"
        assert (tmp_path / "got").read_bytes() == (tmp_path / "files" / "big").read_bytes()
    said = run("h2load", "-n", "60", "-c", "3", "-m", "5", url)
    assert "Application protocol: h2" in said
    assert "60 done, 60 succeeded, 0 failed, 0 errored" in said


def test_http2_request_survives_a_reload(start: Start, tmp_path: Path, gate: Gate) -> None:
    """
    A request over HTTP/2 that a reload comes upon is answered whole.
    """
    server = start(
        *SITE,
        "--tls",
        write_certificate(tmp_path, "a", "a.test"),
        variables=gate.variables,
    )
    url = f"https://127.0.0.1:{server.port}/held"
    with subprocess.Popen(
        ["curl", "-sk", "--http2", "-o", str(tmp_path / "got"),
         "-w", "%{http_version} %{http_code}", url],
        stdout=subprocess.PIPE,
    ) as curl:  # fmt: skip
        gate.wait_for_arrival()
        server.process.send_signal(signal.SIGHUP)
        for slot in range(2):
            server.wait_for_successor(server.started[slot].pid)
        gate.open()
        output, _ = curl.communicate(timeout=PATIENCE)
    assert (output, curl.returncode) == (b"2 200", 0)


LINE = re.compile(r'127\.0\.0\.\d+ - - \[[^]]+\] "GET (\S+) HTTP/1\.1" 200 \d+ "-" "-"')


@pytest.mark.parametrize("application", ["resource", "asgi"])
def test_access_log(start: Start, tmp_path: Path, application: str) -> None:
    """
    All workers append to one log; after a rename, and a reload or SIGUSR1, they go on in a new
    file.
    """
    name = {"resource": "site", "asgi": "asgi_site"}[application]
    path = tmp_path / "access.log"
    server = start(f"--{application}", f"tests.system.apps:{name}", "--access-log", str(path))
    sources = [sources_of(slot, 2, 1)[0] for slot in range(2)]

    def visit(mark: str) -> None:
        for number, source in enumerate(sources):
            with Client(server.target, source) as client:
                assert client.ask(f"/mirror?{mark}{number}").status == 200

    visit("a")
    path.rename(tmp_path / "former.log")
    server.process.send_signal(signal.SIGHUP)
    for slot in range(2):
        server.wait_for_successor(server.started[slot].pid)
    visit("b")
    path.rename(tmp_path / "second.log")
    server.process.send_signal(signal.SIGUSR1)
    server.log.wait_for("The log begins here")
    assert eventually(path.exists)
    visit("c")
    server.stop()
    for file, mark in (("former.log", "a"), ("second.log", "b"), ("access.log", "c")):
        matches = [LINE.fullmatch(line) for line in (tmp_path / file).read_text().splitlines()]
        assert {match[1] for match in matches if match} == {f"/mirror?{mark}{n}" for n in (0, 1)}
        assert None not in matches


def test_access_log_within_the_log(start: Start) -> None:
    """
    With ``-`` the lines stand in the server's own log, with the worker's name before them.
    """
    server = start(*SITE, "--access-log", "-", workers=1)
    with Client(server.target) as client:
        assert client.ask("/mirror").status == 200
    server.log.wait_for(r'\[worker \d+.*\] 127\.0\.0\.1 - - .*"GET /mirror HTTP/1\.1" 200')


def test_overflow_closes(start: Start, tmp_path: Path) -> None:
    """
    A TLS client that cannot be served is not answered in plain text.
    """
    server = start(
        *SITE, "--tls", write_certificate(tmp_path, "a", "a.test"), "--window", "1",
        "--queue-limit", "0",
    )  # fmt: skip
    server.allow(r"refused \(close\)")
    server.suspend(server.worker(0))
    first, second = sources_of(0, 2, 2)
    with Client(server.target, first), Client(server.target, second) as refused:
        assert refused.at_end()
    server.resume(server.worker(0))
    with socket.create_connection(server.target) as probe:
        assert probe.fileno() > 0
