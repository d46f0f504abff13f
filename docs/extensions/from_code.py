"""
Directives whose text is taken from the code, so that it can never disagree with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sphinx.util.docutils import SphinxDirective
from twisted.python.reflect import prefixedMethodNames
from typing_extensions import override
from zope.interface.interface import InterfaceClass

from stickyd.settings.options import Options
from stickyd.settings.table import rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docutils.nodes import Node
    from sphinx.application import Sphinx


class SettingsDirective(SphinxDirective):
    """
    ``.. settings::`` describes every setting, in the order of the table in the code.
    """

    @override
    def run(self) -> list[Node]:
        lines = [line for name in rules() for line in describe_setting(name)]
        return self.parse_text_to_nodes("\n".join(lines))


class CommandsDirective(SphinxDirective):
    """
    ``.. command-line-only::`` describes the options that are no settings.
    """

    @override
    def run(self) -> list[Node]:
        lines = [line for option in options_only() for line in describe_option(*option)]
        return self.parse_text_to_nodes("\n".join(lines))


class InterfacesDirective(SphinxDirective):
    """
    ``.. interfaces:: MODULE`` documents every zope interface of a module, in its order.
    """

    required_arguments = 1

    @override
    def run(self) -> list[Node]:
        name = self.arguments[0]
        lines = []
        for found in vars(import_module(name)).values():
            if isinstance(found, InterfaceClass) and found.__module__ == name:
                lines += [f".. autointerface:: {name}.{found.__name__}", "   :members:", ""]
        return self.parse_text_to_nodes("\n".join(lines))


def describe_setting(name: str) -> Iterator[str]:
    """
    The reStructuredText of one setting.
    """
    rule, default = rules()[name]
    yield from describe_option(f"--{name} {rule.metavar}", rule.help)
    bounds = ""
    if rule.choices:
        bounds = "One of " + ", ".join(f"``{choice}``" for choice in rule.choices) + "."
    elif rule.kind in (int, float) and rule.most != float("inf"):
        bounds = f"From {rule.least:g} to {rule.most:g}."
    elif rule.kind in (int, float):
        bounds = f"At least {rule.least:g}."
    yield f"   {shown_default(name, default)} {bounds}".rstrip()
    yield ""


def shown_default(name: str, default: object) -> str:
    """
    The default as one would write it.
    """
    if default in ("", ()):
        return "Default: none."
    if name == "workers":
        return "Default: ``auto``."
    if isinstance(default, float):
        return f"Default: ``{default:g}``."
    text = " ".join(default) if isinstance(default, tuple) else default
    return f"Default: ``{text}``."


def options_only() -> Iterator[tuple[str, str | None]]:
    """
    The command line's own options, each with its help.
    """
    settings = set(rules())
    for long, _, _, text in Options.optParameters:
        if long not in settings:
            yield f"--{long} VALUE", text
    for long, _, text in Options.optFlags:
        yield f"--{long}", text
    for long in prefixedMethodNames(Options, "opt_"):
        if long not in settings and long != "help":
            yield f"--{long}", getattr(Options, f"opt_{long}").__doc__.strip()


def describe_option(spelling: str, text: str | None) -> Iterator[str]:
    """
    The reStructuredText of one option.
    """
    yield f".. option:: {spelling}"
    yield ""
    yield f"   {text}"
    yield ""


def setup(app: Sphinx) -> dict[str, Any]:
    """
    Called by Sphinx.
    """
    app.add_directive("settings", SettingsDirective)
    app.add_directive("command-line-only", CommandsDirective)
    app.add_directive("interfaces", InterfacesDirective)
    # What the directives read may have changed though no page has.
    app.connect("env-get-outdated", lambda *_: ["options", "api/interfaces"])
    return {"parallel_read_safe": True}
