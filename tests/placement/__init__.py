"""
Tests of stickyd.placement.
"""
