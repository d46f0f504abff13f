"""
What the documentation prints: its blocks, and the commands in them with their output.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]

#: Every page that somebody may copy from.
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "tap/README.md",
    "benchmarks/README.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)

_BLOCK = re.compile(r"^```([^`\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^    \S.*\n(?:^        .*\n)*)+", re.MULTILINE)
_PROMPT = re.compile(r"[$#] ")


@dataclass
class Printed:
    """
    A command as a page prints it.

    :ivar page: the page's path from the root of the checkout.
    :ivar text: the command, in one line, without its comment.
    :ivar output: the lines that follow, which it is said to write.
    """

    page: str
    text: str
    output: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def blocks(page: str, language: str) -> list[str]:
    """
    The blocks of a page that are marked with a language.
    """
    text = (ROOT / page).read_text()
    return [found[2] for found in _BLOCK.finditer(text) if found[1] == language]


def commands(page: str) -> Iterator[Printed]:
    """
    The commands of a page: in its ``console`` blocks and, without a prompt, in indented ones.
    """
    for language in ("console", "text"):
        for block in blocks(page, language):
            yield from _commands_of_block(page, block)
    text = _BLOCK.sub("", (ROOT / page).read_text())
    for found in _INDENTED.finditer(text):
        for line in _joined(found[0]).splitlines():
            if re.match(r"\s*(python|twistd|make|curl|stickyctl|pip) ", line):
                yield Printed(page, _without_comment(line.strip()))


def _commands_of_block(page: str, block: str) -> Iterator[Printed]:
    command: Printed | None = None
    for line in _joined(block).splitlines():
        if _PROMPT.match(line):
            if command is not None:
                yield command
            command = Printed(page, _without_comment(line[2:]))
        elif command is not None:
            command.output.append(line)
    if command is not None:
        yield command


def _joined(text: str) -> str:
    return re.sub(r"\\\n\s*", "", text)


def _without_comment(line: str) -> str:
    return re.sub(r"\s+# .*", "", line)
