"""
Measures what a message of a WebSocket costs, and a connection of TLS with one request, beside
uvicorn: CPU of all of a server's processes.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from benchmarks.files import PATIENCE_SECONDS, cpu_seconds, running
from benchmarks.running import free_port
from benchmarks.tables import markdown

_APPLICATION = "benchmarks.systems.echo:app"
_STICKYD = "{twistd} -n --pidfile= stickyd --listen tcp:{port}:interface=127.0.0.1 --workers 1"
_UVICORN = (
    "{python} -m uvicorn --loop uvloop --http httptools --no-access-log --log-level warning"
    f" --host 127.0.0.1 --port {{port}} {_APPLICATION}"
)
#: How each is started, plain and with TLS.
SYSTEMS = {
    "stickyd": (f"{_STICKYD} --asgi {_APPLICATION}", " --tls {certificate},{key}"),
    "stickyd-kernel": (
        f"{_STICKYD} --asgi {_APPLICATION} --steering kernel",
        " --tls {certificate},{key}",
    ),
    "uvicorn": (_UVICORN, " --ssl-certfile {certificate} --ssl-keyfile {key}"),
}
#: What the others are compared with.
AGAINST = "uvicorn"

_REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """
    Read the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.echoes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="slices of each kind (6)")
    parser.add_argument("--websockets", type=int, default=32, help="open at once (32)")
    parser.add_argument("--messages", type=int, default=500, help="on each, in a slice (500)")
    parser.add_argument("--bytes", type=int, default=100, help="of a message, at most 125 (100)")
    parser.add_argument("--handshakes", type=int, default=400, help="in a slice (400)")
    parser.add_argument("--clients", type=int, default=1, help="that shake hands at once (1)")
    options = parser.parse_args(arguments)
    if not 0 <= options.bytes <= 125:
        parser.error(f"--bytes {options.bytes}: write a number from 0 to 125")
    return options


def echo(port: int, websockets: int, messages: int, size: int) -> None:
    """
    Have messages sent back: one at a time on each of several connections.
    """
    # Masked with zeros (RFC 6455, section 5.3), which costs the server what any mask does.
    sent = bytes((0x82, 0x80 | size, 0, 0, 0, 0)) + bytes(size)
    with ExitStack() as stack:
        clients = []
        for _ in range(websockets):
            client = stack.enter_context(
                socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
            )
            client.sendall(_UPGRADE)
            head = b""
            while b"\r\n\r\n" not in head:
                head += _some(client)
            if head.split()[1] != b"101":
                raise OSError(head.decode())
            clients.append(client)
        for _ in range(messages):
            for client in clients:
                client.sendall(sent)
            for client in clients:
                left = size + 2
                while left:
                    left -= len(_some(client))


def ask_by_tls(port: int, times: int) -> None:
    """
    Make connections of TLS, with a whole handshake and one request each.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for _ in range(times):
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        with context.wrap_socket(plain) as client:
            client.sendall(_REQUEST)
            answer = b""
            with suppress(ssl.SSLEOFError):
                while data := client.recv(65536):
                    answer += data
        if not answer.endswith(b"\r\n\r\nhere\n"):
            raise OSError(f"no answer, but {answer!r}")


def ask_at_once(port: int, times: int, clients: int) -> None:
    """
    Have several clients make connections of TLS at once.

    :param times: in all.
    """
    with ThreadPoolExecutor(clients) as pool:
        shares = [times // clients + (each < times % clients) for each in range(clients)]
        for _ in pool.map(partial(ask_by_tls, port), shares):
            pass


def _some(client: socket.socket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise ConnectionResetError("the server has closed")
    return data


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """
    Make a certificate for nobody, and its key: for P-256, as most are.
    """
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    program = shutil.which("openssl")
    if program is None:
        raise SystemExit("openssl is not installed: apt-get install openssl")
    command = f"{program} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    made = ["-subj", "/CN=localhost", "-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *made], check=True, capture_output=True)
    return certificate, key


def main(arguments: list[str] | None = None) -> int:
    """
    Run the command.
    """
    options = parse(arguments)
    twistd = Path(sys.executable).with_name("twistd")
    figures: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certificate, key = make_certificate(folder)
        plain: dict[str, tuple[int, int]] = {}
        secure: dict[str, tuple[int, int]] = {}
        for name, (command, tls) in SYSTEMS.items():
            for started, text in ((plain, command), (secure, command + tls)):
                port = free_port()
                words = text.format(
                    twistd=twistd,
                    python=sys.executable,
                    port=port,
                    certificate=certificate,
                    key=key,
                )
                ask = (
                    partial(echo, port, 1, 1, 1)
                    if started is plain
                    else partial(ask_by_tls, port, 1)
                )
                started[name] = stack.enter_context(running(shlex.split(words), ask)), port
        for number in range(options.rounds):
            for name in list(SYSTEMS) if number % 2 else list(reversed(SYSTEMS)):
                pid, port = plain[name]
                before = cpu_seconds(pid)
                echo(port, options.websockets, options.messages, options.bytes)
                count = options.websockets * options.messages
                _note(figures, ("WebSocket, a message", name), cpu_seconds(pid) - before, count)
                pid, port = secure[name]
                before = cpu_seconds(pid)
                ask_at_once(port, options.handshakes, options.clients)
                count = options.handshakes
                _note(figures, ("TLS, a connection", name), cpu_seconds(pid) - before, count)
    rows = []
    for (what, name), spent in sorted(figures.items()):
        against = figures[what, AGAINST]
        ratios = [mine / other for mine, other in zip(spent, against, strict=True) if other]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
        rows.append([what, name, f"{statistics.median(spent):.1f}", ratio])
    print(markdown(["what", "system", "CPU µs each", f"of {AGAINST}"], rows))
    return 0


def _note(
    figures: dict[tuple[str, str], list[float]], of: tuple[str, str], seconds: float, count: int
) -> None:
    figures.setdefault(of, []).append(seconds / count * 1e6)


if __name__ == "__main__":
    sys.exit(main())
