"""
Tests of stickyd.operate.
"""
