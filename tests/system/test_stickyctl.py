"""
The real ``stickyctl`` beside a real server.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.system.client import Client
from tests.system.ctl import Ctl
from tests.system.placing import sources_of
from tests.system.processes import eventually
from tests.system.server import LONG, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.system.conftest import Start
    from tests.system.gate import Gate


def test_one_server(start: Start, ctl: Ctl, gate: Gate, tmp_path: Path) -> None:
    """
    All that it shows and does with one server on the machine.
    """
    config = tmp_path / "stickyd.toml"
    config.write_text('affinity = "ip"\nstop-timeout = 20\nsessions = "memory"\n')
    variables = {**ctl.variables, **gate.variables}
    server = start(
        *("--config", str(config), "--resource", "tests.system.apps:site"),
        workers=2,
        variables=variables,
    )
    path = tmp_path / "run" / f"stickyd-{server.pid}.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    _check_what_it_shows(ctl, server.pid, str(config))
    _check_without_rich(ctl, tmp_path / "without")
    # A client that keeps its worker from leaving.
    (source,) = sources_of(1, 2, 1)
    with Client(server.target, source) as held:
        held.send("/held")
        gate.wait_for_arrival()
        old = ctl.json("status")["slots"][1]["workers"][0]["pid"]
        (row,) = ctl.json("requests", "1")["requests"]
        assert (row["path"], row["status"], row["pid"]) == ("/held", 200, old)
        out, _ = ctl.run("explain", source)
        assert out.startswith(f"slot 1: worker {old}, serving\n")
        _, err = ctl.run("reload")
        assert "the application is tried" in err
        assert "2 of 2: slot 1: a fresh worker serves" in err
        leaving = ctl.json("status")["slots"][1]["workers"][1]
        assert (leaving["pid"], leaving["part"], leaving["connections"]) == (old, "leaving", 1)
        assert 0 < leaving["seconds_left"] <= 310
        table, _ = ctl.run("status")
        assert f"worker {old} leaves: 1 connection left, at most " in table
        with ctl.start("drain", "1", "--wait") as draining:
            assert draining.stderr is not None
            assert "connections and sessions go where they belong" in draining.stderr.readline()
            assert draining.wait(LONG) == 0
        gate.open()
        assert held.answer().status == 200
    assert "worker " not in ctl.run("drain", "1")[0]
    with Client(server.target, source) as moved:
        assert moved.ask("/mirror").told["slot"] != 1
    assert "note: slot 1 is drained -> stickyctl undrain 1\n" in ctl.run("check")[0]
    assert ctl.run("undrain", "all")[0] == "drained slots: none\n"
    assert "drain.slot" in ctl.run_here("events", "--slot", "1")[0]
    assert "undrain.slot" in ctl.run_here("events", "--slot", "1")[0]
    assert ctl.run_here("check")[0] == "2 of 2 slots serve\nall is well\n"
    killed = ctl.json("status")["slots"][0]["workers"][0]["pid"]
    server.allow(f"Worker {killed} .* died of signal 9")
    told = ctl.json("kill", "0", "--wait")
    assert (told["slot"], told["killed"]) == (0, killed)
    status = ctl.json("status")
    assert status["slots"][0]["workers"][0]["pid"] == told["successor"] != killed
    assert status["slots"][0]["last_death"]["cause"] == "died of signal 9 (SIGKILL)"
    assert status["slots"][0]["load"]["restarts"] == {"reload": 1, "signal": 1}
    assert status["total"]["restarts"] == {"reload": 2, "signal": 1}
    assert ctl.run("resize", "1", "--wait")[0] == "resized: 1 slot\n"
    server.workers = 1
    _check_refusals(ctl)
    run = ctl.json("status")["server"]["run"]
    assert ctl.run_here("drain", "all")[0] == "drained slots: none; the server is not ready\n"
    told = ctl.json("status")["server"]
    assert (told["ready"], told["not_ready"]) == (False, ["it is drained by an operator"])
    with Client(server.target) as served:
        assert served.ask("/mirror").status == 200
    assert ctl.run("upgrade")[0].startswith(f"upgraded: {server.pid} runs stickyd ")
    upgraded = ctl.json("status")
    assert upgraded["server"]["run"] != run
    assert upgraded["server"]["age_seconds"] > status["server"]["age_seconds"]
    assert path.is_socket()
    # The new code keeps what an operator has said.
    advice = "warning: not ready: it is drained by an operator -> stickyctl undrain all\n"
    assert advice in ctl.run_here("check", code=1)[0]
    assert ctl.run_here("undrain", "all")[0] == "drained slots: none\n"
    assert ctl.json("status")["server"]["ready"]
    assert ctl.run("stop", "--wait")[0] == f"the server {server.pid} has ended\n"
    assert server.wait_until_gone() == 0
    assert not path.exists()


def _check_what_it_shows(ctl: Ctl, pid: int, config: str) -> None:
    told = ctl.json("status")
    assert told["server"]["pid"] == pid
    assert told["server"]["serving"] == told["server"]["available"] == 2
    assert [slot["state"] for slot in told["slots"]] == ["serving"] * 2
    table, _ = ctl.run("status")
    assert "running: 2 of 2 slots serve" in table
    for slot in told["slots"]:
        assert f" {slot['workers'][0]['pid']} " in table
    rows = ctl.run("workers")[0].splitlines()
    assert [row.split()[:3] for row in rows[1:]] == [
        [str(slot["slot"]), "serving", str(slot["workers"][0]["pid"])] for slot in told["slots"]
    ]
    settings = {each["name"]: each for each in ctl.json("config")["settings"]}
    assert settings["stop-timeout"]["origin"] == f"the file {config}"
    assert (settings["workers"]["value"], settings["workers"]["origin"]) == (2, "the command line")
    assert (settings["queue-limit"]["default"], settings["queue-limit"]["origin"]) == (
        True,
        "default",
    )
    assert (settings["affinity"]["value"], settings["affinity"]["changes_by"]) == (
        ["ip"],
        "upgrade",
    )
    assert "stop-timeout" in ctl.run("config")[0]


def _check_refusals(ctl: Ctl) -> None:
    """
    What cannot be done is one line, and a code that says whose mistake it is.
    """
    for code, arguments, line in (
        (1, ("drain", "7"), "there is no slot 7: they are 0 to 0"),
        (1, ("undrain", "0"), "slot 0 is not drained"),
        (1, ("kill", "9"), "there is no slot 9: they are 0 to 0"),
        (1, ("requests", "9"), "there is no slot 9: they are 0 to 0"),
        (1, ("events", "--slot", "9"), "there is no slot 9: they are 0 to 0"),
        (1, ("explain",), "the client's address decides here, and none is given"),
        (1, ("explain", "127.0.0.1:80"), "write it without its port: 127.0.0.1"),
        (1, ("explain", "--address", "nowhere"), "'nowhere' is not an address"),
        (1, ("explain", "--header", "x"), "header: 'x' is no header; write 'Name: value'"),
        (2, ("resize", "0"), "resize: count: '0' is no whole number from 1 to 256"),
        (2, ("drain", "-1"), "drain"),
        (2, ("drain", "first"), "drain: slot: 'first' is no slot; write its number"),
        (2, ("divine",), "divine"),
        (3, ("--control", "/nowhere", "status"), "/nowhere: nobody listens there"),
        (3, ("status", "--instance", "1"), "no server has the pid or port '1'; those that run:"),
    ):
        out, err = ctl.run_here(*arguments, code=code)
        assert out == ""
        assert line in err


def test_what_a_worker_does(start: Start, ctl: Ctl, gate: Gate) -> None:
    """
    What it serves and where it is can be asked while it waits, while its loop is stuck, and
    while its whole interpreter is; and afterwards why it was replaced.
    """
    server = start(
        *("--asgi", "tests.system.stuck:application", "--hang-timeout", "600"),
        workers=1,
        variables={**ctl.variables, **gate.variables},
    )
    with Client(server.target) as waiting:
        waiting.send("/wait?token=secret")
        gate.wait_for_arrival()
        (row,) = ctl.json("requests")["requests"]
        assert {name: row[name] for name in ("slot", "kind", "method", "path", "status")} == {
            "slot": 0,
            "kind": "request",
            "method": "GET",
            "path": "/wait",
            "status": 0,
        }
        assert (row["pid"], row["client"]) == (server.worker(0), "127.0.0.1")
        assert row["seconds"] >= 0
        table, _ = ctl.run("requests", "0")
        assert "/wait" in table
        assert "secret" not in table
        (row,) = ctl.json("clients", "0")["clients"]
        assert (row["client"], row["connections"], row["under_way"]) == ("127.0.0.1", 1, 1)
        told = ctl.json("stacks", "0")
        assert told["by"] == "thread"
        assert told["threads"][0]["name"] == "MainThread"
        (task,) = [t for t in told["tasks"] if any("application" in line for line in t["stack"])]
        assert any("wait_at_gate" in line for line in task["stack"])
        gate.open()
        waiting.answer()
        assert ctl.json("requests")["requests"] == []
    for path, by in (("/spin", "thread"), ("/backtrack", "signal")):
        with Client(server.target) as stuck:
            stuck.send(path)
            gate.wait_for_arrival()
            gate.open()
            _check_stuck(ctl, path.strip("/"), by)
            pid = server.worker(0)
            server.allow(f"Worker {pid} .*died of signal 9", f"worker {pid} slot 0")
            assert ctl.json("kill", "0", "--wait")["killed"] == pid
    killed, died, online = [
        event
        for line in ctl.run_here("events", "--slot", "0", "--json")[0].splitlines()
        if (event := json.loads(line))["event"] in ("kill.ordered", "worker.died", "worker.started")
    ][-3:]
    assert (killed["event"], killed["pid"]) == ("kill.ordered", pid)
    assert (died["event"], died["pid"], died["slot"]) == ("worker.died", pid, 0)
    assert "died of signal 9 (SIGKILL)" in died["text"]
    assert online["event"] == "worker.started"
    assert "died of signal 9" in ctl.run("events")[0]
    with ctl.start("events", "--follow", "--last", "1") as following:
        assert following.stdout is not None
        following.stdout.readline()
        pid = ctl.json("kill", "0")["killed"]
        server.allow(f"Worker {pid} .*died of signal 9")
        assert f"Worker {pid} (slot 0) is killed" in following.stdout.readline()
        assert f"Worker {pid} (slot 0) died" in following.stdout.readline()
        following.send_signal(signal.SIGINT)
        assert following.wait(LONG) == 130
    with ctl.start("top", "--json") as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["server"]["pid"] == server.pid
        watching.send_signal(signal.SIGINT)
        assert watching.wait(LONG) == 130


def _check_stuck(ctl: Ctl, where: str, by: str) -> None:
    """
    See that it is told where a worker is stuck, once it is.
    """

    def told() -> bool:
        answer = ctl.json("stacks", "0")
        if answer["by"] != by:
            return False  # not stuck yet
        lines = answer["lines"] if by == "signal" else answer["threads"][0]["stack"]
        return any(where in line for line in lines)

    assert eventually(told, LONG)

    def found() -> bool:
        answer = ctl.json("check", code=None)
        return any("no heartbeat" in finding["text"] for finding in answer["findings"])

    assert eventually(found, LONG)
    assert "error: worker " in ctl.run_here("check", code=1)[0]
    answer = ctl.json("requests", "0")
    # Its thread tells them, if the interpreter lets it.
    paths = [row["path"] for row in answer["requests"]]
    assert paths == ([f"/{where}"] if by == "thread" else [])
    assert (
        "its event loop is stuck; stickyctl stacks 0 says where" in answer["workers"][0]["problem"]
    )
    assert where in ctl.run("stacks", "0")[0]


def test_several_servers(start: Start, ctl: Ctl, tmp_path: Path) -> None:
    """
    They are listed, and one is chosen by pid, by port or by path; a dead one's socket is
    no server, and goes with the next start.  Garbage harms none.
    """
    assert "no server runs here that this user may ask" in ctl.run("status", code=3)[1]
    options: dict[str, Any] = {"workers": 1, "variables": ctl.variables}
    first = start(**options, listen="tcp:0:interface=127.0.0.1")
    second = start(**options)
    named = start("--control", str(tmp_path / "named"), **options)
    silent = start("--control", "off", **options)
    assert not silent.log.found("Operators are answered")
    _, err = ctl.run("reload", code=4)
    assert "2 servers run here; say which by --instance PID" in err
    for server in (first, second):
        assert str(tmp_path / "run" / f"stickyd-{server.pid}.sock") in err
        assert ctl.json("status", "--instance", str(server.pid))["server"]["pid"] == server.pid
    assert ctl.json("--control", str(tmp_path / "named"), "status")["server"]["pid"] == named.pid
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "named"))
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"this is no question of stickyctl" in client.recv(1000)
    named.allow("does not speak the control protocol")
    first.kill()
    assert len(list((tmp_path / "run").iterdir())) == 2
    assert ctl.json("status")["server"]["pid"] == second.pid
    third = start(**options)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        f"stickyd-{server.pid}.sock" for server in (second, third)
    }


def without(package: str, directory: Path) -> Mapping[str, str]:
    """
    An environment in which a package cannot be imported.
    """
    directory.mkdir()
    (directory / f"{package}.py").write_text("raise ImportError('not here')\n")
    return {"PYTHONPATH": os.pathsep.join([str(directory), str(ROOT)])}


def _check_without_rich(ctl: Ctl, directory: Path) -> None:
    """
    A table takes rich, and one line says so; JSON and plain lines take nothing.
    """
    poor = Ctl(Path(ctl.variables["RUNTIME_DIRECTORY"]))
    poor.variables.update(without("rich", directory))
    out, err = poor.run("status", code=2)
    assert out == ""
    assert err == (
        "stickyctl: status: tables are made by rich, which is not installed: pip install"
        " 'stickyd[ctl]'; or write --json\n"
    )
    assert json.loads(poor.run("status", "--json")[0])["server"]["serving"] == 2
