"""
``twisted.web.test.test_xmlrpc`` against our channel and request.
"""

from __future__ import annotations

from tests.twisted_suites.differences import XMLRPC_CLASSES
from tests.twisted_suites.substitution import collect, load

globals().update(collect(load("test_xmlrpc"), XMLRPC_CLASSES, {}))
