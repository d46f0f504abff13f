"""
``twisted.web.test.test_web`` against our channel and request.
"""

from __future__ import annotations

from tests.twisted_suites.differences import WEB_CLASSES, WEB_DIFFERENCES
from tests.twisted_suites.substitution import collect, load

globals().update(collect(load("test_web"), WEB_CLASSES, WEB_DIFFERENCES))
