"""
Tests of stickyd.
"""
