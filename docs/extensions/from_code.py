"""
Directives whose text is taken from the code, so that it can never disagree with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sphinx.util.docutils import SphinxDirective
from typing_extensions import override
from zope.interface.interface import InterfaceClass

if TYPE_CHECKING:
    from docutils.nodes import Node
    from sphinx.application import Sphinx


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
            if isinstance(found, InterfaceClass) and found.__module__.startswith("stickyd."):
                lines += [f".. autointerface:: {name}.{found.__name__}", "   :members:", ""]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    """
    Called by Sphinx.
    """
    app.add_directive("interfaces", InterfacesDirective)
    # What the directives read may have changed though no page has.
    app.connect("env-get-outdated", lambda *_: ["api/interfaces"])
    return {"parallel_read_safe": True}
