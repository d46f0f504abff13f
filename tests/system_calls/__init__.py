"""
Tests of stickyd.system.
"""
