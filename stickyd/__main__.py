"""
``python -m stickyd explain``: which slot and which worker serve a client, and why;
``python -m stickyd selftest``: whether clients stay with them, through whatever stands in front.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from twisted.python import usage
from typing_extensions import override

from stickyd import selftest
from stickyd.affinity.token import Signer
from stickyd.ctl.asking import ask_who_serves
from stickyd.errors import OperatorError, SettingError
from stickyd.explain import Client, Explanation, explain
from stickyd.operate.place import AUTO, OFF
from stickyd.settings.options import Options, write_out
from stickyd.settings.settings import rules
from stickyd.system.cpus import usable_cpus
from stickyd.system.secrets import Secrets

USAGE = (
    "write: python -m stickyd explain --address 192.0.2.7, or python -m stickyd selftest"
    " http://example.org/"
)


class SelftestOptions(usage.Options):
    """
    What ``selftest`` understands.
    """

    synopsis = "python -m stickyd selftest [options] URL..."
    longdesc = (
        "Makes requests as several clients, by cookie, on connections that are kept and on new"
        " ones, through whatever stands in front of the server, and tells whether each stays with"
        " its worker, and what loses it if not. The exit code is 1 then. With several URLs, the"
        " outermost first and the server's own last, it tells which hop of them does."
    )
    optParameters = [  # noqa: RUF012 (read by usage.Options' own machinery)
        ["clients", None, str(selftest.CLIENTS), "How many clients."],
        [
            *("by", None, ""),
            (
                "The response field by which the application tells its worker; without it the"
                " sticky cookie tells."
            ),
        ],
    ]

    @override
    def parseArgs(self, *urls: str) -> None:
        """
        Take the URLs.
        """
        if not urls:
            raise SettingError("write a URL, as in python -m stickyd selftest http://example.org/")
        self["urls"] = urls
        if (
            not self["clients"].isdecimal()
            or not 1 <= int(self["clients"]) <= selftest.MOST_CLIENTS
        ):
            raise SettingError(
                f"--clients: {self['clients']!r} is no number from 1 to {selftest.MOST_CLIENTS}"
            )

    @override
    def opt_help(self) -> NoReturn:
        """
        Display this help and exit.
        """
        write_out(f"{self}\n")
        raise SystemExit(0)

    def run(self) -> int:
        """
        Try the server, and tell.

        :return: the exit code.
        :raises OperatorError: if it cannot be tried.
        """
        stayed, told = selftest.run_all(self["urls"], int(self["clients"]), self["by"])
        write_out(f"{told}\n")
        return 0 if stayed else 1


class ExplainOptions(Options):
    """
    What ``explain`` understands: a client, and every option of ``twistd stickyd``.
    """

    synopsis = "explain [options] [CLIENT...]"
    longdesc = (
        "Says which slot serves a client and why. CLIENT is an address, a cookie as in"
        " stickyd=VALUE, a header as in 'X-User: alice', or a path. With --control, here or in the"
        " file of --config, it asks the server that runs, and tells the worker too; else it"
        " computes from the options and the configuration file of twistd stickyd."
    )
    help_command = "python -m stickyd explain --help"
    optParameters = [  # noqa: RUF012 (read by usage.Options' own machinery)
        ["address", None, "", "The client's address; without one, a peer on a UNIX socket."],
        ["path", None, "/", "The path of the request, with its query if there is one."],
        ["query", None, "", "The query of the request."],
        ["sni", None, "", "The server name of the TLS handshake."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self._headers: list[tuple[str, str]] = []
        self._words: tuple[str, ...] = ()

    @override
    def parseArgs(self, *words: str) -> None:
        for word in words:
            if word.startswith("-"):
                raise SettingError(f"{word}: write options before what tells of the client")
        self._words = words

    def opt_header(self, header: str) -> None:
        """
        A header of the request, as in 'X-User: alice'. Repeatable.
        """
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise SettingError(f"--header: {header!r} is no header; write 'Name: value'")
        self._headers.append((name, value))

    def opt_cookie(self, cookie: str) -> None:
        """
        A cookie of the request, as in stickyd=VALUE. Repeatable.
        """
        if "=" not in cookie:
            raise SettingError(f"--cookie: {cookie!r} is no cookie; write NAME=VALUE")
        self._headers.append(("Cookie", cookie))

    @property
    def client(self) -> Client:
        """
        The client that is asked about.
        """
        target = self["path"] + (f"?{self['query']}" if self["query"] else "")
        named = Client(self["address"], tuple(self._headers), target, self["sni"])
        return named.with_more(Client.told_by(self._words))

    def explanation(self) -> Explanation:
        """
        What is to be told.

        :raises SettingError: if the settings, or what is said of the client, cannot be.
        :raises OperatorError: if the running server cannot be asked.
        """
        settings = self.settings
        if settings.control not in ("", AUTO, OFF):
            self._require_nothing_else()
            return ask_who_serves(settings.control, self.client)
        secrets = Secrets().of(settings) if settings.secret_file else ()
        signer = Signer(secrets, node=settings.node) if secrets else None
        return explain(settings, settings.workers or usable_cpus(), self.client, signer)

    def _require_nothing_else(self) -> None:
        """
        Refuse options of a server that decides by its own.
        """
        repeated = {"listen": self._listen, "tls": self._tls, "trust": self._trust}
        for name in ("port", *rules()):
            if name != "control" and (repeated.get(name) or self.get(name) is not None):
                raise SettingError(
                    f"--{name} means nothing to a server that runs already; leave it out, or"
                    " write --control= to compute without that server"
                )


def main(arguments: list[str]) -> int:
    """
    Do what the command line says.

    :return: the exit code.
    """
    if arguments[:1] == ["selftest"]:
        return _selftest(arguments[1:])
    if arguments[:1] != ["explain"]:
        sys.stderr.write(f"stickyd: {' '.join(arguments) or 'nothing to do'}: {USAGE}\n")
        return 1
    options = ExplainOptions()
    try:
        options.parseOptions(arguments[1:])
        write_out(f"{options.explanation()}\n")
    except (OperatorError, usage.UsageError) as problem:
        sys.stderr.write(f"stickyd: {problem}\n")
        return 1
    return 0


def _selftest(arguments: list[str]) -> int:
    options = SelftestOptions()
    try:
        options.parseOptions(arguments)
        return options.run()
    except (OperatorError, usage.UsageError) as problem:
        sys.stderr.write(f"stickyd: {problem} (see: python -m stickyd selftest --help)\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
