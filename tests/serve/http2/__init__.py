"""
Tests of stickyd.serve.http2.
"""
