"""
Tests of stickyd.affinity.
"""
