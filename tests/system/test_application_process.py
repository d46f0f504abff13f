"""
What an application may do to its process when it is imported, and what it finds there.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.system.client import Client, ask_once
from tests.system.processes import eventually, state_of
from tests.system.server import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start

#: Answers with what ``told()`` of the module returns, in JSON.
ASGI = """
import asyncio, json, os
def told(): return None
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = told()
    body = json.dumps(await body if asyncio.iscoroutine(body) else body).encode()
    fields = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    Where ``--asgi tried:app`` is found.
    """
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return tmp_path / "tried.py"


def test_fault_24_helper_and_noise_at_import(start: Start, written: Path) -> None:
    """
    Fault 24: an application that starts a helper process and prints what is no text starts,
    and reloads; the trials leave no helper behind.
    """
    pids = written.with_name("pids")
    written.write_text(
        ASGI + "import atexit, subprocess, sys\n"
        "helper = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "if '--check' in sys.argv:\n"
        f"    print(helper.pid, file=open({str(pids)!r}, 'a'))\n"
        "else:\n"
        "    atexit.register(helper.wait); atexit.register(helper.kill)\n"
        "os.write(1, b'\\xff\\xfe noise\\n')\n"
        "os.write(2, b'\\xff\\xfe noise\\n')\n"
    )
    server = start("--asgi", "tried:app", workers=1)
    old = server.worker(0)
    assert ask_once(server.target).status == 200
    server.reload()
    server.log.wait_for(r"\[trial\] \\xff\\xfe noise")
    assert server.worker(0) != old
    assert ask_once(server.target).status == 200
    helpers = [int(pid) for pid in pids.read_text().split()]
    assert len(helpers) == 2
    assert eventually(lambda: all(state_of(pid) in ("", "Z") for pid in helpers))


@pytest.mark.parametrize("reactor", ["uvloop", "asyncio"])
def test_fault_25_loop_run_at_import(start: Start, written: Path, reactor: str) -> None:
    """
    Fault 25: ``asyncio.run()`` at import works in the trial and in the workers, and requests
    are served by the loop that ``get_event_loop()`` gives afterwards.
    """
    written.write_text(
        ASGI + "asyncio.run(asyncio.sleep(0))\n"
        "def make():\n"
        "    global loop\n"
        "    loop = asyncio.get_event_loop()\n"
        "    assert asyncio.get_running_loop() is loop\n"
        "    return app\n"
        "async def told(): return asyncio.get_running_loop() is loop\n"
    )
    options = ("--asgi-factory", "tried:make", "--worker-reactor", reactor)
    server = start(*options, workers=1)
    assert json.loads(ask_once(server.target).body) is True
    server.reload()
    assert json.loads(ask_once(server.target).body) is True


@pytest.mark.parametrize("kind", ["resource", "asgi", "wsgi"])
def test_fault_30_classes_can_be_walked(start: Start, written: Path, kind: str) -> None:
    """
    Fault 30: an application that walks the attributes of its classes at import, as Gradio
    does, is served.
    """
    written.write_text(
        ASGI + "import abc, typing\n"
        "class Component(abc.ABC, typing.Generic[typing.TypeVar('T')]): pass\n"
        "class Button(Component): pass\n"
        "for name in dir(Button):\n"
        "    getattr(Button, name)\n"
        "from twisted.web.static import Data\n"
        "resource = Data(b'null', 'text/plain'); resource.isLeaf = True\n"
        "asgi = app\n"
        "def wsgi(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '4')])\n"
        "    return [b'null']\n"
    )
    server = start(f"--{kind}", f"tried:{kind}", workers=1)
    assert ask_once(server.target).body == b"null"


@pytest.mark.parametrize("reactor", ["uvloop", "asyncio"])
def test_fault_30_processes_of_an_application(start: Start, written: Path, reactor: str) -> None:
    """
    Fault 30: an application's processes are as elsewhere: those it starts do not ignore
    Ctrl-C, those it forks can be terminated, those it spawns import no worker, and what it
    runs by asyncio is reaped.
    """
    written.write_text(
        ASGI + "import multiprocessing, signal, subprocess, sys\n"
        "def same(value): return value\n"
        "ASK = 'import signal; print(signal.getsignal(signal.SIGINT) is "
        "signal.default_int_handler)'\n"
        "def pools():\n"
        "    found = {}\n"
        "    for method in ('fork', 'spawn', 'forkserver'):\n"
        "        with multiprocessing.get_context(method).Pool(1) as pool:\n"
        "            found[method] = pool.apply(same, (method,))\n"
        "        pool.join()\n"
        "    return found\n"
        "async def told():\n"
        "    ran = subprocess.run([sys.executable, '-c', ASK], capture_output=True)\n"
        "    process = await asyncio.create_subprocess_exec(sys.executable, '-c', ASK,\n"
        "        stdout=subprocess.PIPE)\n"
        "    out, _ = await process.communicate()\n"
        "    found = await asyncio.to_thread(pools)\n"
        "    return [ran.stdout.decode(), out.decode(), process.returncode, found]\n"
    )
    server = start("--asgi", "tried:app", "--worker-reactor", reactor, workers=1)
    with Client(server.target) as client:
        found = json.loads(client.ask().body)
    assert found == [
        "True\n",
        "True\n",
        0,
        {"fork": "fork", "spawn": "spawn", "forkserver": "forkserver"},
    ]


def test_fault_25_worker_that_waits_for_its_import_ends_with_the_primary(
    start: Start, written: Path
) -> None:
    """
    Fault 25: a worker in a long import, outside its loop, does not outlive its primary.
    """
    written.write_text(
        ASGI + "import signal, sys\n"
        "if '--check' not in sys.argv:\n"
        "    print('waits', flush=True); signal.pause()\n"
    )
    server = start("--asgi", "tried:app", workers=1, ready=False)
    server.log.wait_for("waits")
    server.send(signal.SIGTERM)
    assert server.wait_until_gone() == 0
    server.check_nothing_left()


#: What takes memory and time at a start, and is for settings that were not given: TLS and HTTP/2,
#: sessions in stores, Redis, and what only applications ask for; by prefix.
FOR_OTHER_SETTINGS = (
    "OpenSSL",
    "cryptography",
    "service_identity",
    "twisted.protocols.tls",
    "twisted.internet.ssl",
    "twisted.internet.endpoints",
    "twisted.web._http2",
    "twisted.web.client",
    "twisted.web.wsgi",
    "twisted.web.static",
    "h2",
    "hpack",
    "multipart",
    "sqlite3",
    "redis",
    "requests",
    "unittest",
    "pydoc",
    "stickyd.adapters",
    "stickyd.admin",
    "stickyd.fleet",
    "stickyd.listen",
    "stickyd.serve.http2",
    "stickyd.serve.static.files",
    "stickyd.serve.tls.server",
    "stickyd.serve.wsgi",
    "stickyd.service",
    "stickyd.sessions.apps.asgi_middleware",
    "stickyd.worker.trial",
)
OF_RESOURCES = ("uvicorn", "click", "websockets", "stickyd.serve.asgi")
OF_ASGI = ("twisted.web", "twisted.spread", "hyperlink", "stickyd.serve.resource")


#: What the fork server has imported, given settings.
PRELOADED = """\
import json, sys
from stickyd.worker import __main__, fork_server, postponed
postponed.import_network()
from stickyd.settings import Settings
from stickyd.worker.preload import preload
preload(Settings.read(json.loads(sys.argv[1])), "uvloop")
print(json.dumps(sorted(sys.modules)))
"""


def preloaded(**settings: str) -> list[str]:
    """
    Ask a fresh interpreter what is imported ahead for settings.
    """
    command = [sys.executable, "-c", PRELOADED, json.dumps(settings)]
    told: list[str] = json.loads(subprocess.check_output(command, cwd=ROOT))
    return told


@pytest.mark.parametrize(
    ("kind", "others"), [("resource", OF_RESOURCES), ("asgi", OF_ASGI)], ids=["resource", "asgi"]
)
def test_a_worker_imports_what_its_settings_need(
    start: Start, written: Path, kind: str, others: tuple[str, ...]
) -> None:
    """
    A worker has imported neither what serves another kind of application, nor what its settings
    do not ask for: it is memory of every worker, and time of every start.
    """
    resource = (
        "from twisted.web.resource import Resource\n"
        "class Root(Resource):\n"
        "    isLeaf = True\n"
        "    def render_GET(self, request): return json.dumps(told()).encode()\n"
        "resource = Root()\n"
    )
    told = "import sys\ndef told(): return sorted(sys.modules)\nasgi = app\n"
    written.write_text(ASGI + told + resource * (kind == "resource"))
    server = start(f"--{kind}", f"tried:{kind}", workers=1)
    unasked = (*FOR_OTHER_SETTINGS, *others)
    prefixes = tuple(f"{name}." for name in unasked)
    found = json.loads(ask_once(server.target).body)
    assert "stickyd.worker.server" in found
    assert [name for name in found if name in unasked or name.startswith(prefixes)] == []
    # All of it was there before the worker was forked, so that workers share it.
    ahead = preloaded(**{kind: f"tried:{kind}"})
    assert [name for name in found if name.startswith("stickyd.") and name not in ahead] == []
