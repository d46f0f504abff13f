"""
What Socket.IO's servers are given: managers, ids, and what these say to each other.
"""
# mypy: disable-error-code="misc"
# (python-socketio has no annotations of its own.)

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
import socketio
from flask import Flask
from flask_socketio import SocketIO
from hypothesis import given, settings
from hypothesis import strategies as st
from socketio.async_pubsub_manager import AsyncPubSubManager
from socketio.pubsub_manager import PubSubManager

from stickyd import bus
from stickyd.adapters import socketio_ids
from stickyd.adapters.socketio_wire import read, write
from stickyd.claim_desk import ClaimDesk
from stickyd.errors import ApplicationError
from stickyd.socketio import AsyncManager, Manager, ThreadedManager, attach

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def asynchronous(**options: Any) -> socketio.AsyncServer:
    """
    A server for asyncio.
    """
    return socketio.AsyncServer(async_mode="asgi", **options)


def threaded(**options: Any) -> socketio.Server:
    """
    A server for threads.
    """
    return socketio.Server(async_mode="threading", **options)


@pytest.mark.parametrize(
    ("make", "kind"), [(asynchronous, AsyncManager), (threaded, ThreadedManager)]
)
def test_each_server_gets_the_manager_of_its_kind(make: Callable[..., Any], kind: Any) -> None:
    """
    By ``attach()``, and by one ``client_manager`` for both.
    """
    attached = make()
    attach(attached)
    given_it = make(client_manager=Manager())
    for server in (attached, given_it):
        assert type(server.manager) is kind
        assert server.manager.server is server
    shared = attached.manager
    attach(attached)
    assert attached.manager is shared


def test_flask_socketio() -> None:
    """
    It is attached by what the application has, once there is a server.
    """
    sio: Any = SocketIO(async_mode="threading")
    with pytest.raises(ApplicationError, match=r"SocketIO is no server .* after init_app\(\)"):
        attach(sio)
    sio.init_app(Flask("of the test"))
    attach(sio)
    assert type(sio.server.manager) is ThreadedManager
    given_it = SocketIO(Flask("another"), async_mode="threading", client_manager=Manager())
    assert type(given_it.server.manager) is ThreadedManager


def test_a_manager_that_is_shared_already_stays() -> None:
    """
    Only the ids are ours then.
    """
    for server, kind in (
        (asynchronous(client_manager=AsyncPubSubManager()), AsyncPubSubManager),
        (threaded(client_manager=PubSubManager()), PubSubManager),
    ):
        attach(server)
        assert type(server.manager) is kind
        assert server.eio.generate_id() != server.eio.generate_id()


class Own(socketio.Manager):
    """
    A manager of the application's.
    """


def test_what_cannot_be_attached() -> None:
    """
    Each is one clear error.
    """
    for nothing in (None, object(), "sio"):
        with pytest.raises(ApplicationError, match="is no server of python-socketio"):
            attach(nothing)
    with pytest.raises(ApplicationError, match="client_manager of its own, Own"):
        attach(threaded(client_manager=Own()))
    server = asynchronous()
    server.manager_initialized = True
    with pytest.raises(ApplicationError, match="had clients already"):
        attach(server)


def test_ids_of_sessions_are_minted_and_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    And those of namespaces, which no client sends by itself, are not.
    """
    claimed: list[bytes] = []
    desk = ClaimDesk()
    desk.open(lambda call, *arguments: call(*arguments), claimed.append)
    monkeypatch.setattr("stickyd.claim_desk.desk", desk)
    monkeypatch.setattr(socketio_ids, "desk", desk)
    server = threaded()
    attach(server)

    def connect() -> None:
        made = server.eio.generate_id()
        assert claimed == [made.encode()]
        server.manager.pre_connect(made, "/")
        assert len(claimed) == 1

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    assert len(claimed) == 1


def test_servers_of_one_process_tell_each_other() -> None:
    """
    Where no stickyd runs, as in a test, the bus is the process's own.
    """

    async def go() -> None:
        one, other = asynchronous(client_manager=Manager()), asynchronous()
        attach(other)
        apart = asynchronous(client_manager=Manager("apart"))
        for server in (one, other, apart):
            server.manager.initialize()
            server.manager_initialized = True
        sid = await other.manager.connect("its transport", "/")
        await one.enter_room(sid, "room")
        await one.emit("word", "hello", room="room")
        bus.publish("stickyd.socketio.socketio", b"\xff no message")
        bus.publish("stickyd.socketio.socketio", b"[]")
        await one.leave_room(sid, "room")
        while "room" in other.manager.rooms["/"]:  # noqa: ASYNC110 (nobody says when)
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(go(), 10))


@settings(max_examples=30)
@given(st.lists(PLAIN, max_size=5))
def test_answers_come_back_as_they_were(arguments: list[Any]) -> None:
    """
    Whatever a client may answer, bytes too.
    """
    message = {"method": "callback", "sid": "x", "id": 1, "args": tuple(arguments)}
    assert read(write(message, json), json)["args"] == arguments


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"1", b"{"])
def test_garbage_is_no_message(data: bytes) -> None:
    """
    It is told apart.
    """
    with pytest.raises(ValueError, match=r".*"):
        read(data, json)
