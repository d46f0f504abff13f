"""
What a primary imports for the admin endpoint.
"""

from __future__ import annotations

import subprocess
import sys

from tests.system.server import ROOT


def test_a_primary_without_the_endpoint_imports_no_web_server() -> None:
    """
    twisted.web is memory of the primary, and time of its start: the plugin has it imported only
    when something is to be answered over HTTP.
    """
    program = "import sys, stickyd.plugin; print('twisted.web' in sys.modules)"
    outcome = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert outcome.stdout == "False\n"
