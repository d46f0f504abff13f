"""
Tests of stickyd.fleet.process.
"""
