"""
``twisted.web.test.test_http`` against our channel and request.
"""

from __future__ import annotations

from tests.twisted_suites.differences import HTTP_CLASSES, HTTP_DIFFERENCES
from tests.twisted_suites.substitution import collect, load

globals().update(collect(load("test_http"), HTTP_CLASSES, HTTP_DIFFERENCES))
