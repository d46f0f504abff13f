"""
Tests of stickyd.sessions.web.
"""
