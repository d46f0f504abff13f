"""
Tests of stickyd.serve.http.
"""
