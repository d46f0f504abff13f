"""
The command line of a program that goes on with what this process does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.settings.session_url import SessionUrl

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Where a daemon logs that was not told where, in the directory where it was started.
LOGFILE = "twistd.log"

#: Has twistd look for no pid file and write none.
NO_PID_FILE = "--pidfile="


def command_line(
    executable: str, arguments: Sequence[str], extra: Sequence[str], logfile: str = ""
) -> list[str]:
    """
    The command line of this process, with more options for twistd.

    :param arguments: :data:`sys.orig_argv` without its first.
    :param extra: options of twistd.
    :param logfile: where a daemon logs unless its command line says so.  A daemon must
        not become one again: its children would be another process's.
    """
    arguments = list(arguments)
    # Options of twistd stand before its command; a .tac is run without one.
    end = arguments.index("stickyd") if "stickyd" in arguments else len(arguments)
    own = arguments[:end]
    added = list(extra)
    short = [option for option in own if option.startswith("-") and not option.startswith("--")]
    if "--nodaemon" not in own and not any("n" in option for option in short):
        added.append("--nodaemon")
        if not any(option.startswith(("-l", "--log", "--sys")) for option in own):
            added.append(f"--logfile={logfile}")
    return [executable, *own, *added, *arguments[end:]]


def shown(command: Sequence[str]) -> str:
    """
    A command line for the log: without the secrets that its URLs may have.
    """
    return " ".join(map(_shown_word, command))


def _shown_word(word: str) -> str:
    option, equals, url = word.partition("=") if word.startswith("--") else ("", "", word)
    scheme, found, rest = url.partition("://")
    return f"{option}{equals}{SessionUrl(scheme, f'//{rest}').shown}" if found else word
