"""
Tests of stickyd.identity.
"""
