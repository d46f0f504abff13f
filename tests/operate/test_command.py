"""
The table of commands, and what their arguments may be.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from stickyd.errors import OperatorError
from stickyd.operate.command import LONGEST_TEXT
from stickyd.operate.table import TABLE, Commands

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
NAMES = [argument.name for command in TABLE.values() for argument in command.arguments]


@given(st.sampled_from(sorted(TABLE)), ANYTHING | st.dictionaries(st.sampled_from(NAMES), ANYTHING))
def test_arguments_are_read_or_refused(name: str, arguments: Any) -> None:
    """
    Whatever is sent, it is a value that the command knows, or one line says why not.
    """
    try:
        values = TABLE[name].read(arguments)
    except OperatorError as problem:
        assert len(str(problem)) < 1000  # noqa: PT017
        assert "\n" not in str(problem) or name in str(problem)  # noqa: PT017
    else:
        assert values.keys() == {argument.name for argument in TABLE[name].arguments}


@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        ("drain", {}, "drain: SLOT|all is missing"),
        ("kill", {"slot": True}, "slot: 'True' is no slot; write its number"),
        ("drain", {"slot": 256}, "slot: '256' is no slot"),
        ("drain", {"slot": 1, "wiat": True}, "did you mean wait? known: slot, wait"),
        ("drain", {"slot": 1, "wait": "yes"}, "wait: true or false is wanted, not 'yes'"),
        ("explain", {"header": "x"}, "header: a list of at most 256 texts is wanted"),
        ("explain", {"path": "x" * (LONGEST_TEXT + 1)}, "path: it is longer than 65536"),
        ("status", [], "status: the arguments must be a JSON object"),
        ("staus", {}, "there is no command 'staus'; did you mean status? known: status"),
        (None, {}, "there is no command 'None'"),
    ],
)
def test_mistake_is_one_line(name: Any, arguments: Any, line: str) -> None:
    """
    What is wrong is named, and what would do.
    """
    asker: Any = None
    primary: Any = None
    failed: list[str] = []
    outcome: Deferred[Any] = Commands(primary).run(name, arguments, asker)
    outcome.addErrback(lambda failure: failed.append(failure.getErrorMessage()))
    assert line in failed[0]


def test_every_command_has_help() -> None:
    """
    A sentence for each, and words for each argument.
    """
    for command in TABLE.values():
        assert command.help.endswith(".")
        assert all(argument.help for argument in command.arguments)
        assert len({argument.name for argument in command.arguments}) == len(command.arguments)
