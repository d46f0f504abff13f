"""
Tests of stickyd.serve.
"""
