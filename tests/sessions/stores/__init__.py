"""
Tests of stickyd.sessions.stores.
"""
