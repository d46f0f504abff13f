"""
``twisted.web.test.test_wsgi`` against our channel and request.
"""

from __future__ import annotations

from tests.twisted_suites.differences import WSGI_CLASSES, WSGI_DIFFERENCES
from tests.twisted_suites.substitution import collect, load

globals().update(collect(load("test_wsgi"), WSGI_CLASSES, WSGI_DIFFERENCES))
