"""
Tests of stickyd.worker.
"""
