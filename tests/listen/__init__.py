"""
Tests of stickyd.listen.
"""
