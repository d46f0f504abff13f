"""
The command line of ``stickyctl``, and its completion.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stickyd.ctl.parser import arguments_of, new_parser, parse
from stickyd.errors import OperatorError
from stickyd.operate.table import TABLE


def given(*words: str) -> dict[str, object]:
    """
    What the server would be sent.
    """
    parsed = parse(words)
    return arguments_of(TABLE[parsed.command], parsed)


def test_arguments_reach_the_server_as_the_table_says() -> None:
    """
    What is not given is not sent, and the server fills it in.
    """
    assert given("drain", "3", "--wait") == {"slot": "3", "wait": True}
    assert given("undrain", "all") == {"slot": "all"}
    assert given("requests") == {}
    assert given("requests", "2") == {"slot": "2"}
    assert given("explain", "--header", "A: b", "--header", "C: d", "--sni", "x") == {
        "header": ["A: b", "C: d"],
        "sni": "x",
    }
    for words in (["drain", "x"], ["resize", "257"], ["events", "--last", "-1"]):
        with pytest.raises(OperatorError):
            given(*words)


def test_client_stands_without_an_option() -> None:
    """
    As many words as tell of it, before or behind the options.
    """
    assert given("explain", "::1", "a=b", "--json", "--sni", "x") == {
        "client": ["::1", "a=b"],
        "sni": "x",
    }
    assert given("explain", "--sni", "x") == {"sni": "x"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "stickyctl: write a command, as in: stickyctl status (see: stickyctl --help)"),
        ("drian 1", "stickyctl: there is no command 'drian'; did you mean drain? known: status, "),
        ("--contrl x status", "stickyctl: there is no command 'x'; known: status, "),
        ("drain", "stickyctl drain: the following arguments are required: SLOT|all (see: "),
        ("drain 1 2", "stickyctl drain: '2' is more than it takes (see: stickyctl drain --help)"),
        ("status --jsno", "stickyctl status: there is no option '--jsno'; did you mean --json? "),
        ("events --slto=3", "stickyctl events: there is no option '--slto'; did you mean --slot?"),
        ("events --slot", "stickyctl events: argument --slot: expected one argument (see: "),
    ],
)
def test_mistake_is_one_line(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    It says what was wrong, and what was probably meant.
    """
    with pytest.raises(SystemExit) as ended:
        parse(words.split())
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_common_options_stand_before_or_after_the_command() -> None:
    """
    ``--json`` and the choice of the server may be written wherever one thinks of them.
    """
    for words in (
        ["--json", "--control", "here", "status"],
        ["status", "--json", "--control", "here"],
        ["--json", "status", "--control", "here"],
    ):
        parsed = new_parser().parse_args(words)
        assert (parsed.json, parsed.control, parsed.instance) == (True, "here", "")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("stickyctl d", {"drain"}),
        ("stickyctl dra", {"drain"}),
        ("stickyctl un", {"undrain"}),
        ("stickyctl reload --w", {"--wait"}),
        ("stickyctl events --f", {"--follow"}),
    ],
)
def test_bash_completes_commands_and_options(
    words: str, completed: set[str], tmp_path: Path
) -> None:
    """
    The script that is printed does that in a real shell.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["stickyctl"])
        import shtab

        script = tmp_path / "completion"
        script.write_text(shtab.complete(new_parser(), "bash"))
    typed = words.split()
    program = (
        f"source {script}; COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1};"
        f" _shtab_stickyctl; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert set(done.stdout.split()) == completed, done.stderr


def test_reader_that_has_seen_enough_is_no_error() -> None:
    """
    As ``head`` is, behind the program.
    """
    program = f"{Path(sys.executable).with_name('stickyctl')} --print-completion bash"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {program} | head -1"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("#")
