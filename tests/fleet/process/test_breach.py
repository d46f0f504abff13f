"""
Fault 16: whatever comes by a worker's control channel, the primary is not harmed.
"""

from __future__ import annotations

import json
import signal
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent

from stickyd.control.commands import Known
from stickyd.control.figures import MAX_FIGURE, read_figures
from stickyd.errors import ControlError
from tests.fleet.process.rig import Rig


def box(values: dict[bytes, bytes]) -> bytes:
    """
    Write a message as AMP does.
    """
    parts = (part for pair in values.items() for part in pair)
    return b"".join(pack("!H", len(part)) + part for part in parts) + b"\0\0"


_COMMANDS = [b"Beat", b"Leave", b"Claim", b"Known", b"Sessions", b"Stand", b"LeadEnded",
             b"LeaseHeld", b"Serve", b"StartTLS", b"Stop", b"\xff"]  # fmt: skip
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
).map(lambda value: json.dumps(value).encode())
_NUMBERS = st.integers(-(10**30), 10**30).map(lambda number: b"%d" % number)
_VALUES = st.binary(max_size=40) | _JSON | _NUMBERS | st.just(b"[1, []]")
_NAMES = [b"figures", b"accepted", b"identifiers", b"keys", b"gone", b"finished", b"slot",
          b"chunk", b"stands", b"term", b"until", b"x", b"_ask", b"_answer", b"_error",
          b"_error_code", b"_error_description"]  # fmt: skip
_ANSWERS = st.integers(1, 9).map(lambda number: b"%x" % number)
_BOXES = st.builds(
    lambda command, ask, values: box({**command, **ask, **values}),
    st.just({}) | st.sampled_from(_COMMANDS).map(lambda name: {b"_command": name}),
    st.just({}) | _ANSWERS.map(lambda tag: {b"_ask": tag}),
    st.dictionaries(st.sampled_from(_NAMES), _VALUES | _ANSWERS, max_size=5),
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(_BOXES | st.binary(max_size=30), min_size=1, max_size=6),
    st.sampled_from([1, 7, 100_000]),
)
def test_fault_16_fuzzed_control_channel(messages: list[bytes], size: int) -> None:
    """
    Fault 16: anything may come, in any pieces: nothing raises, the worker goes on with figures
    that can be counted with, or is killed at once with one line that says why.
    """
    rig = Rig()
    try:
        rig.ready()
        data = b"".join(messages)
        with capturedLogs() as told:
            for start in range(0, len(data), size):
                rig.worker._control.dataReceived(data[start : start + size])
        assert not [event for event in told if "log_failure" in event]
        assert 0 <= rig.worker.load < 2**60
        lines = [formatEvent(event) for event in told]
        breaches = [line for line in lines if "broke the protocol of its control channel" in line]
        killed = rig.reactor.process.signals.count(signal.SIGKILL)
        assert len(breaches) == killed <= 1
        assert all("\n" not in line for line in breaches)
    finally:
        rig.close()


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "1", "null", '{"a": "b"}', '{"a": true}', '{"a": null}', '{"a": -1}',
     '{"a": []}', '{"a": NaN}', '{"a": Infinity}', '{"a": 1e999}', '{"a": 9007199254740993}',
     "[" * 9999,
     json.dumps(dict.fromkeys(map(str, range(65)), 1))],
)  # fmt: skip
def test_fault_16_figures_that_are_none_are_refused(text: str) -> None:
    """
    Fault 16: no figures but a few numbers that can be counted with.
    """
    with pytest.raises(ControlError):
        read_figures(text)


def test_figures_are_read() -> None:
    """
    Whole numbers and others, up to what a float counts exactly.
    """
    figures = {"connections": 3, "memory": 0.5, "requests": MAX_FIGURE, "adopted": 0}
    assert read_figures(json.dumps(figures)) == figures


def test_fault_16_a_worker_that_does_not_answer_is_ended() -> None:
    """
    Fault 16: a worker whose heart beats, and that does not answer what it was told, is ended;
    one that answers within --hang-timeout is not.
    """
    rig = Rig(hang_timeout=5.0)
    try:
        rig.ready()
        rig.worker.tell_places(2, [0, 1])
        for _ in range(5):
            rig.reactor.advance(0.9)
            rig.worker.beat({})
        rig.flush()
        rig.worker.tell_places(2, [0])
        for _ in range(12):
            assert rig.reactor.process.signals == []
            rig.reactor.advance(0.5)
            rig.worker.beat({})
        assert rig.reactor.process.signals == [signal.SIGKILL]
    finally:
        rig.close()


def report(rig: Rig, **said: Any) -> None:
    """
    Have the worker say whom it knows.
    """
    told = {"keys": [], "identifiers": [], "gone": False, "finished": False, **said}
    rig.reactor.control.callRemote(Known, **told).addErrback(lambda _: None)
    rig.flush()


@pytest.mark.parametrize(
    ("affinity", "said", "why"),
    [
        ("ip", {"keys": [b""]}, "a key that is not of 1 to 512 bytes"),
        ("ip", {"keys": [b"a", b"k" * 513]}, "a key that is not of 1 to 512 bytes"),
        ("ip", {"identifiers": [b"i" * 16]}, "an id, where no entry of --affinity learns ids"),
        ("learn:query:sid", {"identifiers": [b"i" * 15]}, "an id that is not 16 bytes long"),
        ("learn:query:sid", {"identifiers": [b""], "gone": True}, "an id that is not 16 bytes"),
    ],
)
def test_a_report_of_clients_that_are_none_ends_its_worker(
    affinity: str, said: dict[str, Any], why: str
) -> None:
    """
    Nothing of it counts, and the worker is killed with one line that says why.
    """
    rig = Rig(affinity=affinity, reload_mode="client")
    try:
        rig.ready()
        rig.worker.keep(None)
        with capturedLogs() as told:
            report(rig, **said)
        assert rig.reactor.process.signals == [signal.SIGKILL]
        assert rig.returns.learned == []
        (line,) = [str(formatEvent(event)) for event in told]
        assert f"broke the protocol of its control channel: it sent a report of {why}" in line
    finally:
        rig.close()


def test_who_was_not_asked_whom_it_knows_may_not_say() -> None:
    """
    A worker that keeps nobody cannot take clients from others.
    """
    rig = Rig(reload_mode="client")
    try:
        rig.ready()
        report(rig, keys=[b"a"])
        assert rig.reactor.process.signals == [signal.SIGKILL]
        assert rig.returns.learned == []
    finally:
        rig.close()


@pytest.mark.parametrize("known_limit", [100_000, 3_000_000])
def test_reports_without_end_end_their_worker(known_limit: int) -> None:
    """
    All that it may know, a few times over, may come at once; and no more than that.
    """
    rig = Rig(reload_mode="client", known_limit=known_limit)
    try:
        rig.ready()
        rig.worker.keep(None)
        known = rig.worker._control._known
        assert known.take(3 * known_limit)
        report(rig, keys=[b"a", b"b"])
        assert [keys for _, keys, _, _ in rig.returns.learned] == [[b"a", b"b"]]
        while known.take(10_000):
            pass
        while known.take(1):
            pass
        report(rig, keys=[b"a"] * 100)
        assert rig.reactor.process.signals == [signal.SIGKILL]
    finally:
        rig.close()
