"""
Writes the table of ``docs/events.md`` from the code: ``python -m docs.extensions.events_page``.

``tests/log/test_events.py`` fails when it is not that of the code.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from stickyd.log.events import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).resolve().parents[1] / "events.md"
PACKAGE = Path(__file__).resolve().parents[2] / "stickyd"

_BEGIN = "<!-- from the code -->\n"
_END = "<!-- end -->\n"

#: What logs an event, and the level that it has then.
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "error": "error",
    "critical": "critical",
    "failure": "critical",
    "emit": "",
}


def calls(source: str) -> Iterator[tuple[int, str, str, str | None]]:
    """
    Every call of a logger in a module: its line, the level, the text, and the event's name
    if it has one.  A logger is what is called ``…_log``; but for the standard library's, in what
    an application imports.
    """
    if "logging.getLogger(" in source and "twisted.logger" not in source:
        return
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        # The reactor's callFromThread(log.info, text, …) counts too.
        logs = [node.func, *node.args[:1]]
        for at, called in enumerate(logs):
            if (
                isinstance(called, ast.Attribute)
                and called.attr in LEVELS
                and ast.unparse(called.value).endswith("_log")
            ):
                texts = node.args[at + (called.attr == "emit") :][:1]
                text = texts[0].value if texts and isinstance(texts[0], ast.Constant) else ""
                yield node.lineno, LEVELS[called.attr], str(text), _name(node)


def _name(call: ast.Call) -> str | None:
    for key in call.keywords:
        if key.arg == "event":
            # As in event=line.event or "worker.output".
            said = key.value.values[-1] if isinstance(key.value, ast.BoolOp) else key.value
            return str(said.value) if isinstance(said, ast.Constant) else None
    return None


def rows() -> Iterator[str]:
    """
    The table, row by row, in the order of the code's.
    """
    texts: dict[str, dict[str, None]] = defaultdict(dict)
    levels: dict[str, dict[str, None]] = defaultdict(dict)
    for path in sorted(PACKAGE.rglob("*.py")):
        for _, level, text, name in calls(path.read_text()):
            if name is not None:
                texts[name][text] = None
                levels[name][level] = None
    yield "| event | level | text | |"
    yield "|---|---|---|---|"
    for name, meaning in EVENTS.items():
        level = ", ".join(filter(None, levels[name]))
        shown = "<br>".join(f"`{cell(text)}`" for text in texts[name] if text)
        yield f"| `{name}` | {level} | {shown} | {cell(meaning)} |"


def cell(text: str) -> str:
    """
    Text as it stands in a table of Markdown.
    """
    return " ".join(text.split()).replace("|", "\\|")


def written(page: str) -> str:
    """
    The page with the table of the code.
    """
    head, _, rest = page.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    table = "".join(f"{row}\n" for row in rows())
    return f"{head}{_BEGIN}\n{table}\n{_END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
