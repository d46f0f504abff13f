"""
Asking for the metrics.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from stickyd.admin.scrape import Scrapes, agree


class Source:
    """
    Hears when the test says so, and writes how often it has.
    """

    def __init__(self) -> None:
        self.hearing: list[Deferred[None]] = []
        self.written: list[str] = []
        self.scrapes = Scrapes(self._hear, self._write)

    def _hear(self) -> Deferred[None]:
        self.hearing.append(Deferred())
        return self.hearing[-1]

    def _write(self, kind: str) -> tuple[bytes, str]:
        self.written.append(kind)
        if "1.0.0" in kind:
            raise ValueError("a collector has failed")
        return b"%d" % len(self.hearing), kind


def result_of(asked: Deferred[tuple[bytes, str]]) -> bytes | str:
    """
    What one was given.
    """
    told: list[object] = []
    asked.addBoth(told.append)
    (result,) = told
    if isinstance(result, Failure):
        return result.getErrorMessage()
    assert isinstance(result, tuple)
    text: bytes = result[0]
    return text


def test_who_asks_meanwhile_gets_the_next() -> None:
    """
    A thousand that ask at once are answered by two rounds, none by one that began before it asked.
    """
    source = Source()
    first = source.scrapes.ask("")
    others = [source.scrapes.ask(kind) for kind in ("", "text/plain") * 500]
    assert len(source.hearing) == 1
    source.hearing[0].callback(None)
    assert result_of(first) == b"1"
    assert len(source.hearing) == 2
    source.hearing[1].callback(None)
    assert {result_of(other) for other in others} == {b"2"}
    assert len(source.hearing) == len(source.written) == 2
    later = source.scrapes.ask("")
    source.hearing[2].callback(None)
    assert result_of(later) == b"3"


def test_a_failure_is_told_to_those_that_asked_for_it() -> None:
    """
    The others, and the next, get theirs.
    """
    source = Source()
    bad, good = source.scrapes.ask("application/openmetrics-text"), source.scrapes.ask("")
    also_bad = source.scrapes.ask("application/openmetrics-text; version=1.0.0")
    for hearing in (0, 1):
        source.hearing[hearing].callback(None)
    for each in (bad, also_bad):
        assert result_of(each) == "a collector has failed"
    assert result_of(good) == b"2"


@pytest.mark.parametrize(
    "version", ["", "abc", "1", "1.0.0", "9.9.9.9", "\xff", "-1", "1.0.0;escaping=none"]
)
def test_few_types_are_agreed_on(version: str) -> None:
    """
    Whatever version somebody names.
    """
    kind = agree(f"application/openmetrics-text;version={version},text/plain;q=0.5")
    assert kind == agree(kind)
    assert kind.startswith(("application/openmetrics-text; version=1.0.0", "text/plain"))
    assert version not in ("", "1.0.0") or "openmetrics" in kind
