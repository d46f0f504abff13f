"""
What stands in the documentation and comes from the code is what the code says.
"""

from __future__ import annotations

from docs.extensions.options_page import PAGE, written


def test_fault_48_options_page_shows_every_option() -> None:
    """
    The tables of ``docs/options.md`` are those of the code, in the page itself, where they
    are read on a forge too (write them: ``python -m docs.extensions.options_page``).
    """
    page = PAGE.read_text()
    assert page == written(page)
    assert "| `--affinity KEY,...` | `ip` |" in page
