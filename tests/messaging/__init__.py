"""
Tests of stickyd.messaging.
"""
