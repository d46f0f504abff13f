"""
Tests of stickyd.control.
"""
