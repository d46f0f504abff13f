from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
# The checkout, so that the documentation is that of the code beside it; and our directives.
sys.path[:0] = [str(HERE.parent), str(HERE / "extensions")]

from stickyd import __version__  # noqa: E402 (the path must be set first)

project = "stickyd"
author = "the stickyd authors"
copyright = f"2026, {author}"
release = version = __version__

# HAProxy has no lexer in Pygments; its blocks are plain.
suppress_warnings = ["misc.highlighting_failure"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "repoze.sphinx.autointerface",
    "from_code",
]
exclude_patterns = ["_build", "newsfragments", "examples"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

html_theme = "furo"
html_title = f"stickyd {release}"
