"""
Tests of stickyd.leadership.
"""
