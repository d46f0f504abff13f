"""
What RFC 9113 and RFC 7541 want of a server, as h2spec asks it: one small conversation each.

The sections are those of RFC 7540, as in h2spec, with RFC 9113's where they differ in what they
want.  A conversation goes over a :class:`Talk`, whatever carries it.
"""

from __future__ import annotations

from tests.http2_conformance import generic, sections
from tests.http2_conformance.talk import CASES, Talk

__all__ = ["CASES", "Talk", "generic", "sections"]
