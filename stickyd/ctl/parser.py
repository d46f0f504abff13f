"""
The command line of ``stickyctl``, made from the table of commands.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any, NoReturn

from typing_extensions import override

from stickyd import __version__
from stickyd.operate.command import unlike
from stickyd.operate.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stickyd.operate.command import Argument, Command

DESCRIPTION = (
    "Shows and steers a running stickyd. With one server on this machine no option is needed."
)

EPILOG = (
    "Exit codes: 0 done; 1 not done, or not wholly: the line says why; 2 the command line means"
    " nothing; 3 no server answers; 4 several servers run, and none is named; 5 the server does"
    " not answer in time."
)


class Parser(argparse.ArgumentParser):
    """
    Says in one line what is wrong, and where the help is; argparse shows all options first.
    """

    @override
    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"argument COMMAND: invalid choice: '(.*?)' \(choose", message)
        if unknown is not None:
            message = unlike("command", unknown[1], list(TABLE))
        elif message.endswith("arguments are required: COMMAND"):
            message = "write a command, as in: stickyctl status"
        self.exit(2, f"{self.prog}: {message} (see: {self.prog} --help)\n")


def new_parser() -> argparse.ArgumentParser:
    """
    Make the parser.  ``command`` is what was chosen, one of the table.
    """
    parser = Parser("stickyctl", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"stickyctl {__version__}")
    _add_common(parser, first=True)
    add_completion(parser)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for command in TABLE.values():
        _add_command(commands, command)
    return parser


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """
    Read a command line; the program's own by default.

    :raises SystemExit: with 2 if it means nothing, which a line has said.
    """
    parser = new_parser()
    parsed, unknown = parser.parse_known_args(words)
    if unknown:
        command, first = TABLE[parsed.command], unknown[0].partition("=")[0]
        message = f"{first!r} is more than it takes"
        if first.startswith("-"):
            names = [_option(each) for each in command.arguments if not each.stands_alone]
            message = unlike("option", first, [*names, "--control", "--instance", "--json"])
        program = f"{parser.prog} {command.name}"
        parser.exit(2, f"{program}: {message} (see: {program} --help)\n")
    return parsed


def add_completion(parser: argparse.ArgumentParser) -> None:
    """
    Add ``--print-completion SHELL``, which takes a library.
    """
    option, told = "--print-completion", "print a script for the completion of a shell"
    try:
        import shtab
    except ImportError:
        parser.add_argument(option, metavar="SHELL", action=_Missing, help=told)
    else:
        shtab.add_argument_to(parser, option, help=told)


class _Missing(argparse.Action):
    """
    Says what an option takes that is not installed.
    """

    @override
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        parser.error(f"{option_string} takes shtab: pip install 'stickyd[ctl]'")


def _add_common(parser: argparse.ArgumentParser, first: bool) -> None:
    """
    Add what may stand before and after the name of the command.

    :param first: whether it is before; else what is not given keeps what was given there.
    """
    unset: Any = argparse.SUPPRESS
    control = parser.add_argument(
        "--control",
        metavar="PATH",
        default="" if first else unset,
        help="the control socket of the server",
    )
    control.complete = {"bash": "_shtab_compgen_files", "zsh": "_files"}  # type: ignore[attr-defined]
    parser.add_argument(
        "--instance",
        metavar="PID|PORT",
        default="" if first else unset,
        help="the server of this pid, or that listens on this port",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        default=False if first else unset,
        help="write JSON instead of tables and lines",
    )


def _add_command(commands: Any, command: Command) -> None:
    sub = commands.add_parser(
        command.name, help=command.help, description=command.help, allow_abbrev=False
    )
    _add_common(sub, first=False)
    for argument in command.arguments:
        _add_argument(sub, argument)


def _option(argument: Argument) -> str:
    return f"--{argument.name.replace('_', '-')}"


#: How often what stands without its name may be given: whether it is optional, and many.
_COUNTS = {(False, False): None, (True, False): "?", (True, True): "*", (False, True): "+"}


def _add_argument(parser: argparse.ArgumentParser, argument: Argument) -> None:
    help_text = argument.help.replace("%", "%%")
    if argument.stands_alone:
        parser.add_argument(
            argument.name,
            metavar=argument.metavar,
            nargs=_COUNTS[argument.optional, argument.many],
            help=help_text,
        )
        return
    name = _option(argument)
    if argument.flag:
        parser.add_argument(name, dest=argument.name, action="store_true", help=help_text)
        return
    parser.add_argument(
        name,
        dest=argument.name,
        metavar=argument.metavar,
        action="append" if argument.many else "store",
        choices=argument.choices or None,
        help=help_text,
    )


def arguments_of(command: Command, parsed: argparse.Namespace) -> dict[str, object]:
    """
    The arguments as the server wants them.

    :raises OperatorError: if one is wrong.
    """
    given = {
        argument.name: value
        for argument in command.arguments
        if (value := getattr(parsed, argument.name)) not in (None, False, [])
    }
    command.read(given)
    return given
