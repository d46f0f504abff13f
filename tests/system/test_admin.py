"""
Metrics, health and agent check of a real server: what they say is true, and nobody gets what is
not for everybody.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from tests.system.asking import Asking
from tests.system.client import ask_once
from tests.system.counting import Counting
from tests.system.processes import descriptors_of, eventually
from tests.system.programs import need_program
from tests.system.server import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.ctl import Ctl
    from tests.system.server import Server

SOURCES = [f"127.0.4.{number}" for number in range(1, 7)]
ALIVE = b"HTTP/1.1 200 OK"


def test_figures_agree_with_what_clients_saw(start: Start, ctl: Ctl) -> None:
    """
    Over a reload, a kill and an upgrade, the answers that were counted are those that clients
    got, to the last one, and no counter has gone back; so are connections.  That is what metrics
    say, ``stickyctl``, and the dashboard's stream.  Nothing is left in a file, and the primary has
    no more descriptors than before.
    """
    server = start("--admin", "0", "--backoff", "0.01", workers=2, variables=ctl.variables)
    server.allow("died of signal 9")
    asking = Asking(server)
    before = len(descriptors_of(server.pid))
    totals: list[float] = []

    def look(clients: Counting) -> None:
        least = clients.acknowledged - len(SOURCES)
        for told in (
            asking.total("stickyd_requests_total", code="2xx"),
            ctl.json("status")["total"]["requests"]["2xx"],
            asking.streamed()["total"]["requests"]["2xx"],
        ):
            assert least <= told <= clients.acknowledged + clients.unknown + len(SOURCES)
            totals.append(told)

    with Counting(server.target, SOURCES) as clients:
        clients.wait_for(100)
        look(clients)
        server.reload()
        clients.wait_for(50)
        look(clients)
        victim = server.worker(0)
        os.kill(victim, signal.SIGKILL)
        server.wait_for_successor(victim)
        clients.wait_for(50)
        look(clients)
        server.upgrade()
        clients.wait_for(100)
        look(clients)
    look(clients)
    assert totals == sorted(totals)
    answered = asking.total("stickyd_requests_total", code="2xx")
    assert clients.acknowledged <= answered <= clients.acknowledged + clients.unknown
    assert asking.total("stickyd_request_duration_seconds_count") == answered
    fresh = asking.total("stickyd_connections_total", way="handoff")
    assert fresh >= answered
    assert asking.total("stickyd_worker_restarts_total", cause="signal") == 1
    assert asking.total("stickyd_worker_restarts_total", cause="reload") >= 4
    assert asking.total("stickyd_requests_in_flight") == 0
    for told in (asking.status(), asking.streamed(), ctl.json("status")):
        total = told["total"]
        assert total["requests"]["2xx"] == answered
        assert total["ways"]["handoff"] == fresh
        assert total["in_flight"] == 0
        assert total["restarts"]["signal"] == 1
    assert promtool("metrics", text=asking.ask("/metrics", known=False)[1]) == (0, "")
    assert eventually(lambda: len(descriptors_of(server.pid)) <= before)


def check_metrics(text: str) -> None:
    """
    Look at metrics as ``promtool check metrics`` does, and at their names.
    """
    for family in text_string_to_metric_families(text):
        assert family.name.startswith("stickyd_"), family.name
        assert family.documentation.endswith("."), family.name
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples), family.name
        assert "pid" not in {key for sample in family.samples for key in sample.labels}


def speak(port: int, data: bytes) -> bytes:
    """
    Say something to a port, and hear what comes back until it closes.
    """
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def check_rights(asking: Asking) -> None:
    """
    Nothing that is not for everybody is told or done without the token, for a foreign host, or
    for a page of another site.
    """
    changes = {"drain": {"slot": 0}, "undrain": {"slot": 0}, "reload": {}, "resize": {"slots": 1}}
    for name, body in changes.items():
        path = f"/api/{name}"
        assert asking.ask(path, "POST", body, known=False)[0] == 401
        assert asking.ask(path)[0] == 405
        for fields in (
            {"Host": "evil.example"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            assert asking.ask(path, "POST", body, fields=fields)[0] == 403, fields
        plain = {"Content-Type": "text/plain"}
        assert asking.ask(path, "POST", body, fields=plain)[0] == 415
    for path in ("/api/status", "/api/events"):
        assert asking.ask(path, known=False)[0] == 401
    assert asking.ask("/api/events", "HEAD") == (200, "")
    assert asking.ask("/", known=False)[0] == 401
    assert asking.ask("/?token=wrong", known=False)[0] == 403
    for path in ("/metrics", "/livez", "/readyz"):
        assert asking.ask(path, known=False)[0] == 200
        assert asking.ask(path, known=False, fields={"Host": "evil.example"})[0] == 403
    assert asking.ask("/nothing")[0] == 404
    assert asking.status()["drained"] == []
    bad: list[tuple[str, dict[str, object]]] = [
        ("/api/drain", {"slot": 99}),
        ("/api/drain", {"slot": True}),
        ("/api/resize", {"slots": 0}),
        ("/api/resize", {"slots": "2"}),
        ("/api/drain", {"slot": 10**300}),
        ("/api/resize", {"slots": 10**300}),
        ("/api/explain", {"client": "nobody"}),
        ("/api/explain", {"client": " "}),
        ("/api/explain", {"client": "a=\ud800"}),
        ("/api/explain", {"client": ["1"]}),
    ]
    for path, wrong in bad:
        assert asking.ask(path, "POST", wrong)[0] in (400, 409), (path, wrong)


def test_nobody_gets_what_is_not_theirs(start: Start) -> None:
    """
    Who may do what, and what is wrong in what those ask who may.
    """
    server = start("--admin", "0", workers=1)
    server.allow("Not drained", "Not resized")
    asking = Asking(server)
    ask_once(server.target)
    check_metrics(asking.ask("/metrics")[1])
    check_rights(asking)


def agent(server: Server) -> str:
    """
    What HAProxy is told.
    """
    port = int(server.log.wait_for(r"agent-check is answered at 127\.0\.0\.1:(\d+)")[1])
    return speak(port, b"\n").decode()


def test_clients_are_sent_elsewhere_before_the_end(start: Start, tmp_path: Path) -> None:
    """
    At a stop the server says first that it is not ready, to whoever asks and to HAProxy, and
    serves as before; a second Ctrl-C does not wait.  The token stands in a file.
    """
    path = tmp_path / "token"
    server = start(
        *("--admin", "0", "--agent-check", "0", "--lame-duck", "600"),
        *("--admin-token-file", str(path)),
        workers=2,
    )
    asking = Asking(server, path.read_text().strip())
    assert agent(server) == "up ready 100%\n"
    assert asking.ask("/readyz", known=False) == (200, "ok\n")
    status, text = asking.ask("/api/drain", "POST", {"slot": 1})
    assert (status, json.loads(text)) == (200, {"done": True})
    assert agent(server) == "up ready 50%\n"
    server.send(signal.SIGINT)
    server.log.wait_for("Not ready any more")
    assert agent(server) == "drain #it stops soon\n"
    status, text = asking.ask("/readyz?verbose", known=False)
    assert status == 503
    assert "[-] staying: it stops soon" in text
    ask_once(server.target)
    server.allow("Stopping at once")
    server.send(signal.SIGINT)
    assert server.wait_until_gone() == 0


def test_application_counts_as_one(start: Start) -> None:
    """
    What the application counts by itself is shown of all workers together, without a directory
    for it: after a reload the share of the former workers is still there, and a worker that is
    stuck holds nobody up.
    """
    server = start("--asgi", "tests.system.frameworks.counted:application", "--admin", "0")
    asking = Asking(server)
    for number in range(1, 21):
        ask_once(server.target, f"127.0.0.{number}")
    assert asking.total("app_hits_total", path="/") == 20
    assert asking.total("app_workers") == 2
    assert asking.total("app_size_bytes_bucket", le="100.0") == 20
    server.reload()
    for number in range(1, 11):
        ask_once(server.target, f"127.0.0.{number}")
    assert asking.total("app_hits_total", path="/") == 30
    assert asking.total("app_workers") == 2
    victim = server.worker(0)
    server.suspend(victim)
    assert asking.total("app_hits_total") == 30
    server.resume(victim)
    assert promtool("metrics", text=asking.ask("/metrics", known=False)[1]) == (0, "")


def promtool(*arguments: str, text: str = "") -> tuple[int, str]:
    """
    Have Prometheus' own tool check something.

    :param text: its standard input.
    :return: its exit code, and what it says.
    """
    command = [need_program("promtool"), "check", *arguments]
    done = subprocess.run(
        command,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_alerts_are_rules() -> None:
    """
    ``promtool check rules`` has nothing against the alerts in ``tap/``.
    """
    code, said = promtool("rules", "--lint-fatal", str(ROOT / "tap" / "alerts.yml"))
    assert code == 0, said
    assert "SUCCESS" in said


def test_promtool_would_complain() -> None:
    """
    It is what judges the metrics: what breaks a rule of Prometheus' is told.
    """
    code, said = promtool("metrics", text="# TYPE stickyd_hits counter\nstickyd_hits 1\n")
    assert code != 0
    assert "_total" in said
