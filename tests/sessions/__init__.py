"""
Tests of stickyd.sessions.
"""
