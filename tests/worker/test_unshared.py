"""
What the trial says of frameworks whose workers are on their own.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import socketio

import stickyd
from stickyd.fleet.preflight import check_application
from stickyd.settings import Settings
from stickyd.worker.unshared import unshared

APPLICATION = """
import channels.layers
import socketio
from django.conf import settings
from flask import Flask
from flask_socketio import SocketIO
import stickyd.socketio

settings.configure(CHANNEL_LAYERS={{"default": {{"BACKEND": "{layer}"}}}})
flask = Flask(__name__)
made = [SocketIO(flask, async_mode="threading")]
{attach}

def make():
    sio = socketio.AsyncServer(async_mode="asgi", client_manager={manager})
    return socketio.ASGIApp(sio)
"""

ALONE = APPLICATION.format(layer="channels.layers.InMemoryChannelLayer", attach="", manager="None")
SHARED = APPLICATION.format(
    layer="stickyd.channels.ChannelLayer",
    attach="stickyd.socketio.attach(made[0])",
    manager="stickyd.socketio.Manager()",
)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            ALONE,
            [
                r"Flask-SocketIO has .* 3 workers .*stickyd\.socketio\.attach\(socketio\)",
                r"python-socketio has .* 3 workers .*stickyd\.socketio\.attach\(sio\)",
                r"Channels has a layer \(default\) .* 3 workers .*stickyd\.channels\.ChannelLayer",
            ],
        ),
        (SHARED, []),
    ],
    ids=["alone", "shared"],
)
def test_one_line_each_says_what_to_write(
    source: str, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    If there are several workers, and they do not share what it takes.
    """
    (tmp_path / "tried_frameworks.py").write_text(source)
    root = Path(stickyd.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{root}:{tmp_path}")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    lines: list[str] = []
    settings = Settings.read({"asgi_factory": "tried_frameworks:make", "workers": 3})
    check_application(settings, lines.append)
    # It may say that it takes its time, too.
    lines = [line for line in lines if "do not share" in line]
    # A slow machine says what it does meanwhile.
    lines = [line for line in lines if not line.startswith("stickyd: importing ")]
    assert len(lines) == len(told), lines
    for line, pattern in zip(lines, told, strict=True):
        assert re.search(pattern, line), line


def test_one_worker_is_alone_anyway() -> None:
    """
    Nothing is said, whatever this process has made.
    """
    made = socketio.AsyncServer(async_mode="asgi")
    assert unshared(1) == []
    assert len(unshared(2)) == 1, made
