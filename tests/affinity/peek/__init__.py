"""
Tests of stickyd.affinity.peek.
"""
