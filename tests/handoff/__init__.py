"""
Tests of stickyd.handoff.
"""
