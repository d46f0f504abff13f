"""
What stands in the documentation and comes from the code is what the code says.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from docs.extensions.options_page import PAGE, written

ROOT = Path(__file__).resolve().parent.parent
DESIGN = (ROOT / "docs" / "design.md").read_text()

#: Its parts that lead a newcomer through the code.
GUIDES = {
    "the table": DESIGN.partition("\nWhere is what:\n")[2].partition("\n## ")[0],
    "the walk": DESIGN.partition("\n## A walk with a connection\n")[2].partition("\n## ")[0],
}


def test_fault_48_options_page_shows_every_option() -> None:
    """
    The tables of ``docs/options.md`` are those of the code, in the page itself, where they
    are read on a forge too (write them: ``python -m docs.extensions.options_page``).
    """
    page = PAGE.read_text()
    assert page == written(page)
    assert "| `--affinity KEY,...` | `ip` |" in page


def defined(path: Path) -> set[str]:
    """
    The classes and functions of a module, and the methods both alone and behind their class.
    """
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{part.name}"
                for part in node.body
                if isinstance(part, ast.FunctionDef)
            }
    return names


@pytest.mark.parametrize("guide", GUIDES)
def test_design_names_what_there_is(guide: str) -> None:
    """
    Whoever follows ``docs/design.md`` finds the files that it names, and the classes and
    functions: those with a capital or an underscore in their names, or behind a class's.
    """
    spans = set(re.findall(r"`([^`]+)`", GUIDES[guide]))
    files = {span for span in spans if re.fullmatch(r"[a-z0-9_]+(/[a-z0-9_]+)*(\.py|/)", span)}
    assert len(files) > 15
    assert {name for name in files if not (ROOT / "stickyd" / name).exists()} == set()
    there: set[str] = set()
    for path in (ROOT / "stickyd").rglob("*.py"):
        there |= defined(path)
    names = {
        span
        for span in spans - files
        if re.fullmatch(r"[A-Za-z_]+(\.[A-Za-z_]+)?", span) and re.search(r"[._A-Z]", span)
    }
    assert names
    assert names - there - {"MSG_PEEK"} == set()


def test_design_shows_every_folder() -> None:
    """
    The tree of ``docs/design.md`` has every folder of the package, and no other.
    """
    tree = DESIGN.partition("\n## The tree\n")[2].partition("\n```text\nstickyd/\n")[2]
    shown, outer = set(), ""
    for line in tree.partition("\n```\n")[0].splitlines():
        found = re.match(r"( +)([a-z0-9_]+)/ ", line)
        if found and len(found[1]) == 2:
            outer = found[2]
            shown.add(outer)
        elif found:
            shown.add(f"{outer}/{found[2]}")
    packages = {path.parent for path in (ROOT / "stickyd").rglob("*/__init__.py")}
    assert shown == {str(path.relative_to(ROOT / "stickyd")) for path in packages}
