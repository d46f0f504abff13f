"""
Loads a test module of twisted.web with our classes in the place of Twisted's.

The module is executed a second time, under another name, while ``twisted.web.http`` and
``twisted.web.server`` are look-alikes that hold our channel, request, factory and site.
Twisted's own modules stay as they are, so that nothing else in the process notices.

Two differences are levelled here, because they would stand in the way of dozens of tests
that are about something else; our own tests hold the real behaviour:

- ``Host`` is not required, since most requests in the suites have none;
- a refusal is the bare ``HTTP/1.1 400 Bad Request`` head that the suites compare with,
  instead of a whole response with the exact status.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import twisted.web
from twisted.internet.task import Clock
from twisted.web import http, server
from typing_extensions import override

from stickyd.serve.http import HTTPChannel, HTTPContext, HTTPLimits, Request
from stickyd.serve.http.lazy_request import LazyRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from unittest import TestResult


class SuiteContext(HTTPContext):
    """
    Refuses in the words that the suites expect.
    """

    @override
    def refusal(self, status: int) -> bytes:
        return b"HTTP/1.1 400 Bad Request\r\n\r\n"


class SuiteRequest(LazyRequest):
    """
    The lazy request for suites that test the request without a site.
    """


SuiteRequest.__name__ = "Request"  # which the suites expect in reprs


class SuiteChannel(HTTPChannel):
    """
    Our channel, with the stock channel's knobs turned into limits.
    """

    requestFactory: Any = SuiteRequest  # noqa: N815 - Twisted's name
    timeOut: float | None = None  # noqa: N815 - Twisted's name
    callLater: Any = None  # noqa: N815 - Twisted's name
    maxHeaders = 500  # noqa: N815 - Twisted's name
    totalHeadersSize = 16384  # noqa: N815 - Twisted's name
    _optimisticEagerReadSize = 0x4000  # noqa: N815 - Twisted's name

    def __init__(self) -> None:
        super().__init__(SuiteContext(Clock()))

    @property
    def transport(self) -> Any:
        return super().transport

    @transport.setter
    def transport(self, transport: Any) -> None:
        self._link.transport = self._output.transport = transport

    @property
    def requests(self) -> list[Any]:
        request = self._pipeline.request
        return [] if request is None else [request]

    @property
    def _requestProducer(self) -> Any:  # noqa: N802 - Twisted's name
        return self._output.producer

    @override
    def connectionMade(self) -> None:
        clock = getattr(self.callLater, "__self__", None)
        if not isinstance(clock, Clock):
            clock = self.context.clock
        wait = self.timeOut
        limits = HTTPLimits(
            head_bytes=self.totalHeadersSize,
            head_fields=self.maxHeaders,
            target_bytes=self.totalHeadersSize,
            body_bytes=None,
            read_ahead_bytes=self._optimisticEagerReadSize,
            idle=wait,
            head=wait,
            body=wait,
            host_required=False,
        )
        # The knobs were turned after it was made.
        transport = self._link.transport
        super().__init__(SuiteContext(clock, limits))
        self.transport = transport
        super().connectionMade()

    @override
    def dataReceived(self, data: bytes) -> None:
        limits = self.context.limits
        if limits.read_ahead_bytes != self._optimisticEagerReadSize:
            self.context.limits = replace(limits, read_ahead_bytes=self._optimisticEagerReadSize)
        super().dataReceived(data)


def make_generic(factory: object) -> Any:
    """
    Wrap our channel as Twisted's factories wrap theirs.
    """
    return http._GenericHTTPChannelProtocol(SuiteChannel())


class SuiteFactory(http.HTTPFactory):
    """
    Twisted's factory with our channel.
    """

    protocol: Any = staticmethod(lambda: make_generic(None))


class SuiteSite(server.Site):
    """
    Twisted's site with our channel and request.
    """

    protocol: Any = staticmethod(lambda: make_generic(None))
    requestFactory: type[server.Request] = Request  # noqa: N815 - Twisted's name


def _look_alike(module: ModuleType, **substitutes: object) -> ModuleType:
    copy = ModuleType(module.__name__, module.__doc__)
    copy.__dict__.update(module.__dict__)
    copy.__dict__.update(substitutes)
    return copy


def load(name: str) -> ModuleType:
    """
    Load a test module of twisted.web with our classes in it.

    :param name: such as ``test_http``.
    """
    http_copy = _look_alike(
        http,
        HTTPChannel=SuiteChannel,
        Request=SuiteRequest,
        HTTPFactory=SuiteFactory,
        _genericHTTPChannelProtocolFactory=make_generic,
    )
    server_copy = _look_alike(server, Request=Request, Site=SuiteSite)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suites import what is deprecated, to test it
        return _load(name, {"http": http_copy, "server": server_copy})


def _load(name: str, modules: dict[str, ModuleType]) -> ModuleType:
    # All that the suite imports is in place first, with Twisted's own classes.
    original = importlib.import_module(f"twisted.web.test.{name}")
    assert original.__file__ is not None
    spec = importlib.util.spec_from_file_location(
        f"twisted.web.test.stickyd_{name}", original.__file__
    )
    assert spec is not None
    assert spec.loader is not None
    suite = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    stock = {short: sys.modules[f"twisted.web.{short}"] for short in modules}
    try:
        for short, copy in modules.items():
            sys.modules[f"twisted.web.{short}"] = copy
            setattr(twisted.web, short, copy)
        spec.loader.exec_module(suite)
    finally:
        for short, module in stock.items():
            sys.modules[f"twisted.web.{short}"] = module
            setattr(twisted.web, short, module)
    return suite


def _forbidden(self: object, *arguments: object, **named: object) -> None:
    raise AssertionError(f"{type(self)} is Twisted's own: the substitution is not in effect")


@contextmanager
def stock_forbidden() -> Iterator[None]:
    """
    Let no stock channel and no stock request be made: ours call neither initialiser.
    """
    forbidden: list[Any] = [http.HTTPChannel, http.Request, server.Request]
    initialisers = [cls.__init__ for cls in forbidden]
    for cls in forbidden:
        cls.__init__ = _forbidden
    try:
        yield
    finally:
        for cls, initialiser in zip(forbidden, initialisers, strict=True):
            cls.__init__ = initialiser


def collect(
    suite: ModuleType, chosen: tuple[str, ...], differences: dict[str, str]
) -> dict[str, type]:
    """
    Take test classes out of a suite.

    :param chosen: their names.
    :param differences: ``Class.test``, named where it is defined, to the reason why it is
        left out.
    """
    for name in differences:
        class_name, _, test = name.partition(".")
        assert class_name in chosen, name
        delattr(getattr(suite, class_name), test)  # and so from the classes derived from it
    return {name: _guard(getattr(suite, name)) for name in chosen}


def _guard(original: Any) -> type:
    def run(self: Any, result: TestResult) -> object:
        with stock_forbidden():
            return original.run(self, result)

    names = {"run": run, "__module__": original.__module__, "__doc__": original.__doc__}
    return type(original.__name__, (original,), names)
