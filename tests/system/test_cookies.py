"""
100 browsers at one address, whom nothing but the sticky cookie tells apart.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from stickyd.affinity.token import Signer
from tests.system.client import Client
from tests.system.rehoming import KINDS, every_channel, request, set_cookies, signalled
from tests.system.test_keys import secret_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

WORKERS = 4
BROWSERS = 100
SECRET = b"a secret that is long enough"

#: Heartbeats tell the primary the workers' loads, a moment late; between them it counts the
#: connections itself, exactly.
BY_COOKIE = ("--affinity", "cookie:stickyd", "--heartbeat", "60")


class Browser:
    """
    A browser: its cookies, a connection that it keeps, and what it has seen.

    :ivar slots: who has answered it, in order.
    :ivar visits: what the session has counted.
    :ivar given: how many sticky cookies it got.
    """

    def __init__(self, server: Server) -> None:
        self.jar: dict[str, str] = {}
        self.slots: list[int] = []
        self.visits = 0
        self.given = 0
        self._server = server
        self._kept: Client | None = None

    def visit(self, anew: bool = False) -> None:
        """
        Make a request; the session shall have counted it, behind all before.

        :param anew: on a connection of its own.
        """
        if anew or self._kept is None:
            self.leave()
            self._kept = Client(self._server.target)
        cookies = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        fields = [f"Cookie: {cookies}"] if cookies else []
        self._kept.socket.sendall(request(*fields, path="/visits"))
        with self._kept.response() as response:
            body = response.read()
        assert response.status == 200, body
        told = json.loads(body)
        self.visits += 1
        assert told["id"] == self.visits
        self.slots.append(told["slot"])
        for name, value in set_cookies(response).items():
            self.given += name == "stickyd"
            self.jar[name] = value.partition(";")[0]

    def leave(self) -> None:
        """
        Close the connection.
        """
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    @property
    def named(self) -> int:
        """
        The slot that its cookie names.
        """
        return int(self.jar["stickyd"].partition(".")[0])


def browsers(server: Server, stack: ExitStack, count: int = BROWSERS) -> list[Browser]:
    """
    Have browsers come that nobody knows, each on a connection that it keeps.
    """
    made = [Browser(server) for _ in range(count)]
    for browser in made:
        stack.callback(browser.leave)
        browser.visit()
    return made


def test_each_browser_sticks(start: Start) -> None:
    """
    100 browsers of one address spread over all workers, and each stays with its own, over
    connections that it keeps and new ones, and gets its cookie once.
    """
    server = start(*KINDS["resource"], *BY_COOKIE, workers=WORKERS)
    with ExitStack() as stack:
        crowd = browsers(server, stack)
        assert Counter(browser.named for browser in crowd) == dict.fromkeys(range(WORKERS), 25)
        for anew in (False, True, False, True, True):
            for browser in crowd:
                browser.visit(anew)
        for browser in crowd:
            assert set(browser.slots) == {browser.named}
            assert browser.given == 1


FORGERIES = {
    "another secret": lambda value, slot: Signer([b"somebody else's secret"]).mint(slot),
    "another slot": lambda value, slot: f"{(slot + 1) % WORKERS}{value[1:]}",
    "a slot far away": lambda value, slot: f"65535{value[1:]}",
    "another id": lambda value, slot: value.replace(value.split(".")[1], "A" * 16),
    "a bad signature": lambda value, slot: value[:-9] + value[-9:].swapcase()[::-1],
    "no signature": lambda value, slot: value.rpartition(".")[0],
    "cut off": lambda value, slot: value[:-1],
    "too much": lambda value, slot: value + "A",
    "garbage": lambda value, slot: "%00\\x;;=\"",
    "a stamp": lambda value, slot: Signer([SECRET]).stamp(b"abc", slot).decode(),
    "bytes": lambda value, slot: "\xff\xfe" * 20,
    "nothing": lambda value, slot: "",
    "a novel": lambda value, slot: value * 100,
}  # fmt: skip


@every_channel
def test_forged_cookies_count_for_nothing(kind: str, start: Start, tmp_path: Path) -> None:
    """
    Whoever brings a cookie that we did not sign is a newcomer, whatever slot it names, and is
    given a good one, of which nobody is told.
    """
    path = secret_file(tmp_path, SECRET)
    server = start(*KINDS[kind], *BY_COOKIE, "--secret-file", path, workers=WORKERS)
    good = Signer([SECRET])
    mark = server.log.mark()
    for forge in FORGERIES.values():
        slots = []
        with ExitStack() as stack:
            # As many as there are workers, one after the other: newcomers go round.
            for _ in range(WORKERS):
                client = stack.enter_context(Client(server.target))
                head = request(f"Cookie: stickyd={forge(good.mint(0), 0)}").decode()
                client.socket.sendall(head.encode("latin-1"))
                with client.response() as response:
                    slots.append(json.loads(response.read())["slot"])
                value = set_cookies(response)["stickyd"].partition(";")[0]
                assert good.slot_of(value.encode()) == slots[-1]
                # It is as good as any.
                client.socket.sendall(request(f"Cookie: stickyd={value}"))
                with client.response() as response:
                    assert json.loads(response.read())["slot"] == slots[-1]
                assert not set_cookies(response)
        assert sorted(slots) == list(range(WORKERS))
    assert server.log.found("", since=mark) == []


def test_one_slot_more_moves_nobody(start: Start) -> None:
    """
    A cookie names its slot, and when one is added all others stay: nobody moves, on a kept
    connection or a new one, nor gets another cookie; newcomers go to the new slot first.
    """
    server = start(*KINDS["resource"], *BY_COOKIE, workers=WORKERS)
    with ExitStack() as stack:
        crowd = browsers(server, stack)
        signalled(server, signal.SIGTTIN, f"Resized from {WORKERS} to {WORKERS + 1} slots")
        for anew in (False, True):
            for browser in crowd:
                browser.visit(anew)
        for browser in crowd:
            assert set(browser.slots) == {browser.named}
            assert browser.given == 1
        newcomers = browsers(server, stack, 25)
        # The least loaded, until it has as many as the others.
        assert {browser.named for browser in newcomers[:20]} == {WORKERS}


def test_one_slot_less_moves_its_browsers_only(start: Start) -> None:
    """
    When a slot is taken away, its browsers move and nobody else: to the worker that has their
    sessions now, with cookies that name that; on kept connections and new ones.
    """
    server = start(*KINDS["resource"], *BY_COOKIE, workers=WORKERS)
    with ExitStack() as stack:
        crowd = browsers(server, stack)
        homes = [browser.named for browser in crowd]
        gone = WORKERS - 1
        signalled(server, signal.SIGTTOU, f"Resized from {WORKERS} to {gone} slots")
        for number, browser in enumerate(crowd):
            # Half of them keep their connection.
            browser.visit(anew=bool(number % 2))
        for anew in (False, True):
            for browser in crowd:
                browser.visit(anew)
    for home, browser in zip(homes, crowd, strict=True):
        if home == gone:
            assert browser.slots[0] == gone
            assert set(browser.slots[1:]) == {browser.named}
            assert browser.given == 2
        else:
            assert (set(browser.slots), browser.named, browser.given) == ({home}, home, 1)
    moved = [browser.named for home, browser in zip(homes, crowd, strict=True) if home == gone]
    assert len(moved) == 25
    # All that says who they are is the slot, so they go where it went, together.
    assert len(set(moved)) == 1


LOGINS = {
    "flask": ("session", "--wsgi", "tests.system.frameworks.logins:wsgi"),
    "starlette": ("session", "--asgi", "tests.system.frameworks.logins:asgi"),
    "twisted.web": ("TWISTED_SESSION", "--resource", "tests.system.frameworks.logins:resource"),
}


@pytest.mark.parametrize("framework", LOGINS)
def test_fault_6_nobody_is_logged_out(framework: str, start: Start) -> None:
    """
    Fault 6: told to use the name of the application's own cookie, the server warns at the start,
    and as soon as it sees the application set one; it overwrites none.
    """
    name, *application = LOGINS[framework]
    server = start(*application, "--affinity", f"cookie:{name}", workers=1)
    server.allow("a cookie of this name is set by", "The application sets a cookie named")
    server.log.wait_for(f"--affinity: cookie:{name}: a cookie of this name is set by")
    jar: dict[str, str] = {}

    def visit(path: str) -> bytes:
        with Client(server.target) as client:
            cookies = "; ".join(f"{name}={value}" for name, value in jar.items())
            client.send(path, True, *([f"Cookie: {cookies}"] if cookies else []))
            with client.response() as response:
                fresh = set_cookies(response)
                assert len(response.headers.get_all("Set-Cookie", [])) == len(fresh)
                jar.update({name: value.partition(";")[0] for name, value in fresh.items()})
                return response.read()

    visit("/")
    assert visit("/login") == b"hello"
    assert [visit("/") for _ in range(5)] == [b"alice"] * 5
    server.log.wait_for(f"The application sets a cookie named {name} itself")
    assert len(server.log.found("The application sets a cookie named")) == 1


def ask(target: tuple[str, int], path: str, jar: dict[str, str]) -> bytes:
    """
    Ask as a browser does, whose cookies know no ports.
    """
    with Client(target) as client:
        cookies = "; ".join(f"{name}={value}" for name, value in jar.items())
        client.send(path, True, *([f"Cookie: {cookies}"] if cookies else []))
        with client.response() as response:
            fresh = set_cookies(response)
            jar.update({name: value.partition(";")[0] for name, value in fresh.items()})
            return response.read()


def test_servers_of_one_host_keep_their_sessions_apart(start: Start) -> None:
    """
    With a name of its own for each one's cookie, nobody who uses both is logged out of either.
    """
    resource = ("--resource", "tests.system.frameworks.logins:resource")
    first = start(*resource, workers=2)
    second = start(*resource, "--session-cookie", "second", workers=2)
    jar: dict[str, str] = {}
    for server in (first, second):
        assert ask(server.target, "/login", jar) == b"hello"
    assert set(jar) == {"TWISTED_SESSION", "second"}
    for server in (first, second) * 3:
        assert ask(server.target, "/", jar) == b"alice"
