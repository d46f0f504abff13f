"""
Tests of stickyd.listen.reuseport.
"""
