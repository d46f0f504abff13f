"""
Tests of stickyd.serve.tls.
"""
