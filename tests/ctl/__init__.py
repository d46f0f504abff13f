"""
Tests of stickyd.ctl.
"""
