"""
Tests of stickyd.log.
"""
