"""
The command line of ``twistd stickyd``: options and a configuration file become settings.
"""

from __future__ import annotations

import re
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from shutil import get_terminal_size
from typing import Any, NoReturn

from twisted.python import usage
from typing_extensions import override

from stickyd import __version__
from stickyd.errors import OperatorError, SettingError
from stickyd.settings.hints import argument_meant, meant
from stickyd.settings.settings import Settings, read_some, rules
from stickyd.settings.table import KINDS
from stickyd.settings.toml import read_file
from stickyd.settings.values import port_endpoint, spelt

#: How the help shows a default of 0 that stands for something else.
_NULL = {"workers": "auto", "limit-concurrency": "no limit"}


def _shown(default: Any) -> str:
    return " ".join(default) if isinstance(default, tuple) else f"{default:g}" if isinstance(
        default, float) else str(default)  # fmt: skip


def _parameter(name: str) -> list[str | None]:
    rule, default = rules()[name]
    # twistd's help has no place for what stands for the value, and a unit belongs there.
    about = [rule.metavar]
    if default != "":
        about.append(f"default: {_NULL.get(name) or _shown(default)}")
    return [name, {"workers": "w"}.get(name), None, f"{rule.help} [{', '.join(about)}]"]


def write_out(text: str) -> None:
    """
    Write to standard output.  A reader that has seen enough is no error.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would try again at its exit, and tell.
        with suppress(BrokenPipeError):
            sys.stdout.close()


#: The heading of the options that are no settings.
OWN_GROUP = "This command"

#: Options that may be given several times.
_REPEATABLE = ("listen", "tls", "trust")


class Options(usage.Options):
    """
    What ``twistd stickyd`` understands.

    :ivar settings: the outcome.
    :ivar origins: where each setting that was given was given, by its name as it is spelt.
    """

    synopsis = "[options]"
    help_command = "twistd stickyd --help"
    longdesc = (
        "Runs a stateful web application on all cores; one client always reaches one worker."
        " Every option can also stand in a TOML file, by the same name; the command line wins."
        " Without an application, try: curl http://127.0.0.1:3000/"
    )
    optParameters = [  # noqa: RUF012 (read by usage.Options' own machinery)
        [
            "port",
            "p",
            None,
            "Listen on this TCP port: the same as --listen tcp:PORT. [default: 3000]",
        ],
        *(_parameter(name) for name in rules() if name not in _REPEATABLE),
        ["config", "c", None, "Read options from this TOML file."],
    ]
    optFlags = [  # noqa: RUF012
        ["check", None, "Check the options, import the application, say what is wrong, and exit."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.settings = Settings()
        self.origins: dict[str, str] = {}
        self._listen: list[str] = []
        self._tls: list[str] = []
        self._trust: list[str] = []
        self._arguments: list[str] = []

    def opt_listen(self, endpoint: str) -> None:
        self._listen.append(endpoint)

    opt_listen.__doc__ = f"{rules()['listen'][0].help} [default: tcp:3000]"

    def opt_tls(self, pair: str) -> None:
        self._tls.append(pair)

    opt_tls.__doc__ = rules()["tls"][0].help

    def opt_trust(self, networks: str) -> None:
        self._trust += networks.split(",")

    opt_trust.__doc__ = rules()["trust"][0].help

    def opt_version(self) -> NoReturn:
        """
        Show the version of stickyd and exit.
        """
        write_out(f"stickyd {__version__}\n")
        raise SystemExit(0)

    @override
    def getUsage(self, width: int | None = None) -> str:
        """
        The options by group, as ``docs/options.md`` has them.
        """
        width = width or get_terminal_size().columns
        grouped: dict[str, list[dict[str, Any]]] = {OWN_GROUP: []}
        shorts = {long: short for short, long in self.synonyms.items() if len(short) == 1}
        for name in (option.rstrip("=") for option in self.longOpt):
            group = rules()[name][0].group if name in rules() else OWN_GROUP
            shown = {
                "long": name,
                "short": shorts.get(name),
                "doc": self.docs[name],
                "optType": "parameter" if f"{name}=" in self.longOpt else "flag",
                "default": None,
                "dispatch": None,
            }
            grouped.setdefault(group, []).append(shown)
        headings = [*dict.fromkeys(rule.group for rule, _ in rules().values()), OWN_GROUP]
        parts = []
        for heading in headings:
            lines = usage.docMakeChunks(grouped[heading], width)
            parts.append(f"{heading}:\n{''.join(lines)}\n")
        return "".join(parts) + "\n".join(textwrap.wrap(self.longdesc, width)) + "\n"

    @override
    def opt_help(self) -> NoReturn:
        """
        Display this help and exit.
        """
        write_out(f"{self}\n")
        raise SystemExit(0)

    @override
    def parseOptions(self, options: Any = None) -> None:
        """
        Parse; an operator's mistake ends the process with one line.

        twistd would print its whole help for a :exc:`usage.UsageError`, and the line
        that says what is wrong below it.
        """
        self._arguments = sys.argv[1:] if options is None else list(options)
        try:
            self._refuse_others()
            super().parseOptions(options)
        except usage.UsageError as problem:
            said = self._explain(str(problem))
            self.refuse(said)
        except OperatorError as problem:
            self.refuse(str(problem))

    def _refuse_others(self) -> None:
        """
        Refuse what other servers call so, before getopt takes it for the beginning of a name of
        ours.
        """
        if "--reload" in self._arguments:
            raise usage.UsageError("option --reload not recognized")

    def refuse(self, problem: str) -> None:
        """
        End the process with one line.

        :param problem: what is wrong.
        """
        raise SystemExit(f"stickyd: {problem} (see: {self.help_command})") from None

    def _explain(self, problem: str) -> str:
        """
        Add what is meant to what getopt says.
        """
        lacking = re.match(r"option --(\S+) requires argument", problem)
        if lacking is not None and lacking[1] in rules():
            return f"{problem}; write --{lacking[1]} {rules()[lacking[1]][0].metavar}"
        found = re.match(r"option (-+)(\S+) (not recognized|not a unique prefix)", problem)
        if found is None:
            return problem
        known = [name.rstrip("=") for name in self.longOpt]
        hint = meant(found[2], known)
        return f"{problem}; {hint}" if hint else problem

    def reread(self) -> Settings:
        """
        Read the same command line again, and the configuration file as it is now.

        :raises SettingError: if something is wrong with them.
        """
        again = Options()
        try:
            usage.Options.parseOptions(again, self._arguments)
        except usage.UsageError as problem:
            raise SettingError(str(problem)) from None
        self.origins = again.origins
        return again.settings

    @override
    def parseArgs(self, *unexpected: str) -> None:
        if unexpected:
            hint = argument_meant(unexpected[0])
            raise SettingError(f"unexpected argument {unexpected[0]!r}; {hint}")

    @override
    def postOptions(self) -> None:
        given: dict[str, Any] = {}
        if self["config"] is not None:
            given.update(read_file(Path(self["config"])))
        if self["port"] is not None:
            self._listen.insert(0, port_endpoint("--port", self["port"]))
        command_line = {name: self[name] for name in rules() if self.get(name) is not None}
        if self._listen:
            command_line["listen"] = self._listen
        if self._tls:
            command_line["tls"] = self._tls
        if self._trust:
            command_line["trust"] = self._trust
        self.origins = {spelt(name): f"the file {self['config']}" for name in given}
        given.update(read_some(command_line, "--"))
        self.origins.update({spelt(name): "the command line" for name in command_line})
        self.settings = Settings(**given)
        self._require_application(command_line)

    def _require_application(self, command_line: dict[str, Any]) -> None:
        """
        Refuse an application's option without a value, as of a variable that is not set.

        :raises SettingError: if nothing else is served instead.
        """
        if self.settings.application is not None:
            return
        for name in KINDS:
            if command_line.get(spelt(name)) == "":
                raise SettingError(
                    f"--{spelt(name)}: expected {rules()[spelt(name)][0].metavar}, not nothing"
                )
