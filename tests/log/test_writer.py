"""
Where the log goes: :mod:`stickyd.log.writer`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from twisted.logger import Logger, LogLevel

from stickyd.log.formats import WORKERS
from stickyd.log.writer import LogWriter


def test_file_is_opened_again(tmp_path: Path) -> None:
    """
    As logrotate has it: the file is moved away, and the log goes on in a new one.
    """
    path = tmp_path / "log"
    writer = LogWriter(str(path), "json", "info", {})
    log = Logger(namespace="stickyd.test", observer=writer)
    log.info("one")
    path.rename(tmp_path / "log.1")
    log.info("two")
    writer.reopen()
    log.info("three")
    writer.close()
    said = [
        [json.loads(line)["message"] for line in (tmp_path / name).read_text().splitlines()]
        for name in ("log.1", "log")
    ]
    assert said == [["one", "two"], ["three"]]


def test_file_that_cannot_be_opened_again(tmp_path: Path) -> None:
    """
    The log goes on in the former one.
    """
    path = tmp_path / "folder" / "log"
    path.parent.mkdir()
    writer = LogWriter(str(path), "text", "info", {})
    path.parent.rename(tmp_path / "moved")
    with pytest.raises(OSError, match="folder"):
        writer.reopen()
    Logger(namespace="stickyd.test", observer=writer).info("still")
    writer.close()
    assert (tmp_path / "moved" / "log").read_text().endswith("stickyd   still\n")


def test_level(tmp_path: Path) -> None:
    """
    What is less is not written; what Twisted says of itself is for who debugs.
    """
    for level, said in {
        "info": ["i", "w"],
        "warning": ["w"],
        "debug": ["d", "i", "t", "w"],
    }.items():
        path = tmp_path / level
        writer = LogWriter(str(path), "json", level, {})
        log = Logger(namespace="stickyd.test", observer=writer)
        log.debug("d")
        log.info("i")
        Logger(namespace="twisted.internet", observer=writer).info("t")
        log.warn("w")
        writer.close()
        assert [json.loads(line)["message"] for line in path.read_text().splitlines()] == said


def test_level_changes(tmp_path: Path) -> None:
    """
    A reload can change it.
    """
    path = tmp_path / "log"
    writer = LogWriter(str(path), "json", "info", {})
    log = Logger(namespace="stickyd.test", observer=writer)
    for level in ("info", "warning", "debug"):
        writer.write_from(level)
        log.info(level)
    writer.close()
    said = [json.loads(line)["message"] for line in path.read_text().splitlines()]
    assert said == ["info", "debug"]


def test_twisted_form_has_a_line_for_each_line_of_a_worker(tmp_path: Path) -> None:
    """
    As it was before there were other forms.
    """
    path = tmp_path / "log"
    writer = LogWriter(str(path), "twisted", "info", {})
    log = Logger(namespace=WORKERS, observer=writer)
    log.emit(LogLevel.warn, "[{name}] {text}{more}", name="worker 1 slot 0", text="It failed",
             more="\nTraceback\nEnd", trace="Traceback\nEnd")  # fmt: skip
    writer.close()
    lines = [line.partition(" ")[2] for line in path.read_text().splitlines()]
    begin = "[stickyd.worker#warn] [worker 1 slot 0]"
    assert lines == [f"{begin} It failed", f"{begin} Traceback", f"{begin} End"]


def test_journal_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Standard output that systemd keeps gets priorities and no times; colours only a terminal.
    """
    path = tmp_path / "journal"
    with open(path, "w") as journal:
        monkeypatch.setattr(sys, "stdout", journal)
        found = os.fstat(journal.fileno())
        variables = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        writer = LogWriter("", "text", "info", variables)
        Logger(namespace="stickyd.test", observer=writer).warn("full")
    assert path.read_text() == "<4>stickyd   warning: full\n"
