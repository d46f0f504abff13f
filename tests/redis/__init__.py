"""
Tests of stickyd.redis.
"""
