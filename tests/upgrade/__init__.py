"""
Tests of stickyd.upgrade.
"""
