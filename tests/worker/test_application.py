"""
From the settings to a host: what is found, and what an operator reads otherwise.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from klein import Klein
from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from werkzeug.wrappers import Request as WsgiRequest
from werkzeug.wrappers import Response as WsgiResponse

from stickyd.errors import ApplicationError, SettingError
from stickyd.serve.asgi.host import AsgiHost
from stickyd.serve.protocol import ProtocolHost
from stickyd.serve.resource import ResourceHost
from stickyd.serve.wsgi.host import WsgiHost
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.settings import Settings
from stickyd.worker.build_host import build_host
from tests.hosting import a_reactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stickyd.interfaces import IHost

HERE = __name__


# what the options name


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """
    An ASGI 3 application.
    """


class Asgi:
    """
    The same as an object.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """
        Serve.
        """


class Awaitable:
    """
    The same as a class whose instances are awaited.
    """

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope

    def __await__(self) -> Any:
        yield


class Asgi2:
    """
    An ASGI 2 application.
    """

    def __call__(self, scope: Any) -> Any:
        """
        Make what serves.
        """


def decorated(scope: Any, receive: Any, send: Any) -> Any:
    """
    A plain function that returns what is awaited.
    """
    return asgi(scope, receive, send)


def wsgi(environ: Any, start_response: Any) -> Any:
    """
    A WSGI application.
    """


def make_asgi() -> Asgi:
    """
    Make an ASGI application.
    """
    return Asgi()


async def make_asgi_later() -> Asgi:
    """
    Make it where nobody can wait for it.
    """
    return Asgi()


def make_nothing() -> None:
    """
    Make no application.
    """


def make_number() -> int:
    """
    Make something else.
    """
    return 5


def make_factory_of_wsgi() -> Any:
    """
    Make what would make an application.
    """
    return make_wsgi


def needs(name: str) -> Any:
    """
    Make one by a name that nobody gives.
    """
    return wsgi


def make_wsgi() -> Any:
    """
    Make a WSGI application.
    """
    return wsgi


def make_wsgi_with(config: Any = None, debug: bool = False, name: str = "") -> Any:
    """
    Make one with a configuration, as Flask's tutorial does.
    """
    return wsgi


class WsgiClass:
    """
    An application that must be made.
    """

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """
        Answer nothing.
        """


@WsgiRequest.application
def wsgi_of_a_request(request: WsgiRequest) -> WsgiResponse:
    """
    A function that werkzeug has made one of; it looks as the function.
    """
    return WsgiResponse()


def wsgi_of_any_arguments(*arguments: Any) -> Any:
    """
    A WSGI application, as decorators leave them.
    """


def quits() -> None:
    """
    End the process.
    """
    sys.exit(7)


def fail() -> None:
    """
    Make an error.
    """
    raise ValueError("not today")


async def handler(request: Any) -> None:
    """
    Something of a framework, and not an application.
    """


asgi_object, asgi2_object = Asgi(), Asgi2()
asgi_partial = functools.partial(asgi)
factory = Factory.forProtocol(Protocol)
root = Resource()
number = 5
klein = Klein()
flask = Flask("tried")


def make_factory() -> Factory[Protocol]:
    """
    Make a protocol factory.
    """
    return factory


@pytest.fixture
def build() -> Iterator[Callable[..., IHost]]:
    """
    Build a host of settings.
    """
    with a_reactor() as reactor:
        sessions = SessionRegistry(MemorySessionStore(reactor), reactor)
        yield lambda **given: build_host(Settings.read(given), reactor, sessions)


@pytest.mark.parametrize(
    ("option", "name", "kind"),
    [
        ("resource", "root", ResourceHost),
        ("resource", "Resource", ResourceHost),
        ("asgi", "asgi", AsgiHost),
        ("asgi", "asgi_object", AsgiHost),
        ("asgi", "asgi_partial", AsgiHost),
        ("asgi", "decorated", AsgiHost),
        ("asgi", "Awaitable", AsgiHost),
        ("asgi_factory", "make_asgi", AsgiHost),
        ("asgi_factory", "Asgi", AsgiHost),
        ("wsgi", "wsgi", WsgiHost),
        ("wsgi", "flask", WsgiHost),
        # Fault 29: a factory, as Flask's documentation has it.
        ("wsgi", "make_wsgi", WsgiHost),
        ("wsgi", "make_wsgi_with", WsgiHost),
        ("wsgi", "wsgi_of_any_arguments", WsgiHost),
        ("wsgi", "wsgi_of_a_request", WsgiHost),
        ("wsgi_factory", "make_wsgi_with", WsgiHost),
        ("wsgi_factory", "WsgiClass", WsgiHost),
        ("protocol", "factory", ProtocolHost),
        ("protocol", "make_factory", ProtocolHost),
        ("protocol", "Factory", ProtocolHost),
    ],
)
def test_builds_the_host_of_its_option(
    build: Callable[..., IHost], option: str, name: str, kind: type
) -> None:
    """
    Each option leads to its host, whatever form the application has.
    """
    assert type(build(**{option: f"{HERE}:{name}"})) is kind


def test_serves_the_demonstration_otherwise(build: Callable[..., IHost]) -> None:
    """
    Without an application there is a host too.
    """
    assert type(build()) is ResourceHost


@pytest.mark.parametrize(
    ("option", "name", "says"),
    [
        ("asgi", "wsgi", "as WSGI applications do: write --wsgi instead"),
        ("asgi", "asgi2_object", "as ASGI 2 applications do: wrap it in asgiref"),
        ("asgi", "Asgi2", "is a class: give an instance of it, or make one by --asgi-factory"),
        ("asgi", "make_asgi", "write --asgi-factory instead"),
        ("asgi", "handler", "does not take (scope, receive, send)"),
        ("asgi", "number", "int cannot be called"),
        ("asgi", "nothing", "has no attribute 'nothing'"),
        ("asgi_factory", "make_asgi_later", "is asynchronous, and nobody waits for it"),
        ("asgi_factory", "make_nothing", "it returns None (is a return missing?), which cannot"),
        ("asgi_factory", "fail", "calling it failed: ValueError: not today"),
        ("asgi_factory", "number", "not int"),
        ("wsgi", "asgi", "as ASGI applications are: write --asgi instead"),
        ("wsgi", "asgi_object", "write --asgi instead"),
        ("wsgi", "make_asgi", "what it returns is asynchronous, as ASGI applications are"),
        ("wsgi", "make_asgi", "write --asgi-factory instead"),
        ("wsgi", "make_nothing", "it returns None (is a return missing?), which cannot"),
        ("wsgi", "make_number", "it returns int, which cannot be called"),
        ("wsgi", "fail", "calling it failed: ValueError: not today"),
        ("wsgi", "WsgiClass", "give an instance of it, or make one by --wsgi-factory"),
        ("wsgi_factory", "fail", "calling it failed: ValueError: not today"),
        ("wsgi_factory", "number", "not int"),
        ("wsgi_factory", "make_nothing", "it returns None (is a return missing?), which cannot"),
        ("wsgi_factory", "make_asgi", "write --asgi-factory instead"),
        ("wsgi_factory", "make_factory_of_wsgi", "what it returns does not take (environ,"),
        ("wsgi_factory", "flask", "is an application itself: write --wsgi {} instead"),
        ("wsgi_factory", "asgi", "is an application itself: write --asgi {} instead"),
        ("wsgi_factory", "root", "is an application itself: write --resource {} instead"),
        ("wsgi_factory", "needs", "needs arguments, and gets none"),
        ("asgi_factory", "asgi", "is an application itself: write --asgi {} instead"),
        ("asgi_factory", "wsgi", "is an application itself: write --wsgi {} instead"),
        ("asgi_factory", "make_wsgi", "write --wsgi-factory instead"),
        ("asgi_factory", "needs", "needs arguments, and gets none"),
        ("wsgi_factory", "make_asgi_later", "is asynchronous, and nobody waits for it"),
        ("wsgi", "quits", "calling it failed: the application ended its process (7)"),
        ("resource", "quits", "calling it failed: the application ended its process (7)"),
        ("resource", "klein", "Klein is no twisted.web IResource; write --resource {}.resource"),
        ("asgi", "klein", "Klein is no ASGI application; write --resource {}.resource"),
        ("wsgi", "klein", "Klein is no WSGI application; write --resource {}.resource"),
        ("wsgi", "root", "Resource is no WSGI application; write --resource {}"),
        ("asgi", "root", "Resource is no ASGI application; write --resource {}"),
        ("asgi", "factory", "Factory is no ASGI application; write --protocol {}"),
        ("protocol", "root", "Resource is no IProtocolFactory; write --resource {}"),
        ("resource", "wsgi", "function is no twisted.web IResource; write --wsgi {}"),
        ("resource", "asgi", "function is no twisted.web IResource; write --asgi {}"),
        ("resource", "asgi_object", "Asgi is no twisted.web IResource; write --asgi {}"),
        ("resource", "flask", "Flask is no twisted.web IResource; write --wsgi {}"),
        ("asgi", "make_wsgi_with", "write --asgi-factory instead"),
        ("wsgi", "asgi2_object", "does not take (environ, start_response)"),
        ("wsgi", "number", "int cannot be called"),
        ("protocol", "Protocol", "is a protocol, not its factory; name Factory.forProtocol("),
        ("protocol", "number", "int is no IProtocolFactory"),
        ("protocol", "make_nothing", "NoneType is no IProtocolFactory"),
        ("protocol", "fail", "calling it failed: ValueError: not today"),
        ("resource", "number", "int is no twisted.web IResource"),
        ("resource", "fail", "calling it failed: ValueError: not today"),
    ],
)
def test_says_what_is_wrong(build: Callable[..., IHost], option: str, name: str, says: str) -> None:
    """
    One line names the option, what it names, and what is wrong with that.
    """
    with pytest.raises(ApplicationError) as refused:
        build(**{option: f"{HERE}:{name}"})
    said = str(refused.value)
    assert said.startswith(f"--{option.replace('_', '-')} {HERE}:{name}: ")
    assert says.replace("{}", f"{HERE}:{name}") in said
    assert "\n" not in said


def test_missing_uvicorn_is_told(
    build: Callable[..., IHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Without uvicorn the line says what to install.
    """
    for module in [name for name in sys.modules if name.startswith("stickyd.serve.asgi.host")]:
        monkeypatch.delitem(sys.modules, module)
    for module in [name for name in sys.modules if name.partition(".")[0] == "uvicorn"]:
        monkeypatch.delitem(sys.modules, module)

    class Nowhere:
        """
        Finds no uvicorn, as if it were not installed.
        """

        @staticmethod
        def find_spec(name: str, *rest: object) -> None:
            if name == "uvicorn":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Nowhere, *sys.meta_path])
    with pytest.raises(ApplicationError, match=r"needs? uvicorn.*pip install 'stickyd\[asgi\]'"):
        build(asgi=f"{HERE}:asgi")


def test_missing_directory_is_told(build: Callable[..., IHost], tmp_path: Path) -> None:
    """
    A directory that is not there, or is none, is one line.
    """
    file = tmp_path / "file"
    file.touch()
    for path, cause in ((tmp_path / "none", "No such file"), (file, "Not a directory")):
        with pytest.raises(ApplicationError) as refused:
            build(static=str(path))
        assert str(refused.value).startswith(f"--static {path}: cannot serve the directory")
        assert cause in str(refused.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"asgi": "a:b", "wsgi": "c:d"}, "--asgi and --wsgi: only one application"),
        (
            {"resource": "a:b", "static": "x", "protocol": "c:d"},
            "--resource and --static and --protocol: only one",
        ),
        ({"asgi": "a:b", "worker_reactor": "epoll"}, "--worker-reactor uvloop or asyncio"),
        ({"asgi_factory": "a:b", "worker_reactor": "epoll"}, "--asgi-factory: ASGI"),
        ({"wsgi": "a:b", "lifespan": "on"}, "--lifespan means nothing to --wsgi; it is for"),
        ({"static": "x", "root_path": "/a"}, "--root-path means nothing to --static"),
        ({"wsgi_threads": "3"}, "--wsgi-threads means nothing to the demonstration"),
        ({"asgi": "a:b", "root_path": "a"}, "with a slash before and none behind"),
        ({"asgi": "a:b", "root_path": "/a/"}, "with a slash before and none behind"),
        ({"wsgi": "a:b", "root_path": "/ä"}, "write it in ASCII"),
        ({"asgi": "a:b", "lifespan": "maybe"}, "known: auto, on, off"),
    ],
)
def test_settings_that_contradict_each_other(given: dict[str, str], says: str) -> None:
    """
    Options that cannot go together are told before anything is imported.
    """
    with pytest.raises(SettingError) as refused:
        Settings.read(given)
    assert says in str(refused.value)


def test_settings_that_go_together() -> None:
    """
    Each option is accepted with the applications that it is for.
    """
    for given in (
        {"asgi": "a:b", "root_path": "/a/b", "lifespan": "off", "limit_concurrency": "5"},
        {"asgi_factory": "a:b", "ws_max_size": "100", "worker_reactor": "asyncio"},
        {"wsgi": "a:b", "wsgi_threads": "3", "root_path": "/a", "worker_reactor": "epoll"},
        {"protocol": "a:b", "worker_reactor": "epoll"},
    ):
        settings = Settings.read(given)
        (kind, value), *_ = given.items()
        assert settings.application == (kind.replace("_", "-"), value)
        assert Settings.from_json(settings.to_json()) == settings
    assert Settings().application is None
