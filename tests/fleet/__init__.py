"""
Tests of stickyd.fleet.
"""
