"""
Tests of stickyd.net.
"""
