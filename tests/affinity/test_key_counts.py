"""
Counting the connections that a worker accepts itself.
"""

from __future__ import annotations

from stickyd.affinity.key_counts import MOST_KEYS, KeyCounts, Report


def test_the_busiest_are_told_and_the_rest_counted() -> None:
    """
    A report has all connections, and of the three busiest keys an address and how many.
    """
    counts = KeyCounts()
    for number in [9] * 5 + [8] * 7 + [7] * 3 + [6, 5]:
        counts.add(bytes([number]), f"192.0.2.{number}")
    assert counts.take() == Report(
        17,
        ((b"\x08", "192.0.2.8", 7), (b"\x09", "192.0.2.9", 5), (b"\x07", "192.0.2.7", 3)),
    )


def test_each_report_begins_anew() -> None:
    """
    What was told once is not told again; where nothing came there is no report.
    """
    counts = KeyCounts()
    assert counts.take() is None
    counts.add(b"a", "192.0.2.1")
    assert counts.take() == Report(1, ((b"a", "192.0.2.1", 1),))
    assert counts.take() is None
    counts.add(b"a", "192.0.2.2")
    assert counts.take() == Report(1, ((b"a", "192.0.2.2", 1),))


def test_memory_is_bounded() -> None:
    """
    Of more keys than that, those which came first are counted; the others in the total only.
    """
    counts = KeyCounts()
    for number in range(MOST_KEYS + 10):
        counts.add(b"%d" % number, "192.0.2.1")
    for _ in range(9):
        counts.add(b"%d" % MOST_KEYS, "192.0.2.1")
        counts.add(b"1", "192.0.2.1")
    report = counts.take()
    assert report is not None
    assert report.total == MOST_KEYS + 28
    assert report.busiest[0] == (b"1", "192.0.2.1", 10)
    assert {count for _, _, count in report.busiest[1:]} == {1}


def test_report_travels_as_text() -> None:
    """
    Whatever the key's bytes are.
    """
    report = Report(3, ((b"\xff\x00", "2001:db8::1", 2), (b"", "", 1)))
    assert Report.from_json(report.to_json()) == report
