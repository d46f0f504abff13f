"""
``twisted.web.test.test_websocket`` against our channel and request.
"""

from __future__ import annotations

from tests.twisted_suites.differences import WEBSOCKET_CLASSES
from tests.twisted_suites.substitution import collect, load

globals().update(collect(load("test_websocket"), WEBSOCKET_CLASSES, {}))
