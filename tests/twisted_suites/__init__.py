"""
Twisted's own tests of its web server, run against our channel and request.
"""
