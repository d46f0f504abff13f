"""
Tests of stickyd.settings.
"""
