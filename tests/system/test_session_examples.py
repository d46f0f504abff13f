"""
The examples of ``docs/sessions.md``, as they are printed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.system.client import Client
from tests.system.printing import blocks
from tests.system.rehoming import set_cookies
from tests.system.server import Server

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = {
    found[1]: (block, found[2].split())
    for block in blocks("docs/sessions.md", "python")
    if (found := re.match(r"# (\w+)\.py  (--.*)\n", block))
}


def test_every_framework_has_one() -> None:
    """
    None is missing, and none has more than some ten lines.
    """
    assert {name.removeprefix("shop_") for name in EXAMPLES} == {
        *("starlette", "fastapi", "wsgi", "flask", "django")
    }
    lines = {name: block.split("\n") for name, (block, _) in EXAMPLES.items()}
    assert max(len([*filter(None, block)]) for block in lines.values()) <= 17


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_counts(name: str, tmp_path: Path) -> None:
    """
    It is served as it says, and counts in a session.
    """
    block, options = EXAMPLES[name]
    (tmp_path / f"{name}.py").write_text(block)
    server = Server(*options, workers=1, directory=tmp_path)
    try:
        server.wait_until_ready()
        cookie: list[str] = []
        for number in (1, 2, 3):
            with Client(server.target) as client:
                client.send("/", True, *cookie)
                with client.response() as response:
                    assert (response.status, response.read()) == (200, str(number).encode())
                for key, value in set_cookies(response).items():
                    cookie = [f"Cookie: {key}={value.partition(';')[0]}"]
        server.stop()
    finally:
        server.destroy()
