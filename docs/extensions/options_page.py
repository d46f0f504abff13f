"""
Writes the tables of ``docs/options.md`` from the code: ``python -m docs.extensions.options_page``.

They stand in the page itself, so that whoever reads it where nothing is built sees them;
``tests/test_documentation.py`` fails when they are not those of the code.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from twisted.python.reflect import prefixedMethodNames

from stickyd.settings.options import Options
from stickyd.settings.settings import rules

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).resolve().parents[1] / "options.md"

#: What stands around each table in the page.
_BEGIN = "<!-- from the code: {} -->\n"
_END = "<!-- end -->\n"


def setting_rows() -> Iterator[str]:
    """
    The tables of all settings, one a group, row by row.
    """
    group = ""
    for name, (rule, default) in rules().items():
        if rule.group != group:
            if group:
                yield ""
            group = rule.group
            yield from (f"### {group}", "", "| option | default | |", "|---|---|---|")
        bounds = ""
        if rule.choices:
            bounds = " One of " + ", ".join(f"`{choice}`" for choice in rule.choices) + "."
        elif rule.kind in (int, float) and rule.most != float("inf"):
            bounds = f" From {rule.least:g} to {rule.most:g}."
        elif rule.kind in (int, float):
            bounds = f" At least {rule.least:g}."
        spelling = f"`--{name} {rule.metavar}`"
        yield f"| {cell(spelling)} | {shown_default(name, default)} | {cell(rule.help)}{bounds} |"


def shown_default(name: str, default: object) -> str:
    """
    The default as one would write it, or nothing if there is none.
    """
    if default in ("", ()):
        return ""
    if name == "workers":
        return "`auto`"
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{' '.join(default) if isinstance(default, tuple) else default}`"


def command_line_rows() -> Iterator[str]:
    """
    The table of the command line's own options, row by row.
    """
    yield "| option | |"
    yield "|---|---|"
    settings = set(rules())
    for long, _, _, text in Options.optParameters:
        if long not in settings:
            yield f"| `--{long} VALUE` | {cell(text or '')} |"
    for long, _, text in Options.optFlags:
        yield f"| `--{long}` | {cell(text or '')} |"
    for long in prefixedMethodNames(Options, "opt_"):
        if long not in settings and long != "help":
            text = " ".join(getattr(Options, f"opt_{long}").__doc__.split())
            yield f"| `--{long}` | {cell(text or '')} |"


def cell(text: str) -> str:
    """
    Text that may stand in a cell of a table.
    """
    return text.replace("|", "\\|")


def written(page: str) -> str:
    """
    The page with the tables that the code gives.

    :raises ValueError: if the page has no place for one.
    """
    for name, rows in (("settings", setting_rows()), ("command line", command_line_rows())):
        before, mark, rest = page.partition(_BEGIN.format(name))
        _, end, after = rest.partition(_END)
        if not mark or not end:
            raise ValueError(f"no place for the table of the {name}")
        page = "".join([before, mark, "\n", *(f"{row}\n" for row in rows), "\n", end, after])
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
