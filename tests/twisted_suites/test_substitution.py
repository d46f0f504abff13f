"""
Tests that the substitution is in effect.
"""

from __future__ import annotations

import unittest

import pytest
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import http, server

from stickyd.serve.http import HTTPChannel, Request
from stickyd.serve.http.lazy_request import LazyRequest
from tests.twisted_suites.substitution import collect, load, stock_forbidden


def test_suite_builds_on_ours() -> None:
    """
    The classes that a loaded suite uses, and those it has derived, are ours.
    """
    suite = load("test_http")
    assert issubclass(suite.http.HTTPChannel, HTTPChannel)
    assert issubclass(suite.DummyHTTPHandler, LazyRequest)
    assert isinstance(suite.http.HTTPFactory().buildProtocol(None)._channel, HTTPChannel)
    web = load("test_web")
    channel = web.server.Site(web.SimpleResource()).buildProtocol(None)
    assert isinstance(channel._channel, HTTPChannel)
    assert channel.requestFactory is Request


def test_twisted_stays_as_it_is() -> None:
    """
    Loading a suite leaves Twisted's own modules untouched.
    """
    before = dict(vars(http)), dict(vars(server))
    load("test_web")
    assert (dict(vars(http)), dict(vars(server))) == before


def test_stock_classes_are_forbidden() -> None:
    """
    While a suite's test runs, neither a stock channel nor a stock request can be made.
    """
    channel = http.HTTPChannel()
    with stock_forbidden():
        for make in (http.HTTPChannel, lambda: http.Request(channel)):
            with pytest.raises(AssertionError, match="substitution is not in effect"):
                make()
    http.HTTPChannel()


def test_differences_must_exist() -> None:
    """
    A difference that names no test of the suite is an error, so the table cannot go stale.
    """
    suite = load("test_http")
    with pytest.raises(AttributeError):
        collect(suite, ("ParsingTests",), {"ParsingTests.test_gone": "no reason"})
    with pytest.raises(AssertionError):
        collect(suite, ("ParsingTests",), {"RequestTests.test_write": "not chosen"})


def test_collected_tests_are_guarded() -> None:
    """
    A collected test that makes a stock request fails.
    """
    suite = load("test_http")

    class Tests(SynchronousTestCase):
        def test_stock(self) -> None:
            """Make what must not be made."""
            http.Request(http.HTTPChannel())

    suite.Tests = Tests  # type: ignore[attr-defined]  # one more class for the suite
    guarded = collect(suite, ("Tests",), {})["Tests"]
    result = unittest.TestResult()
    guarded("test_stock").run(result)
    assert len(result.errors) + len(result.failures) == 1
