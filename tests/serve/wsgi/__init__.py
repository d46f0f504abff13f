"""
Tests of stickyd.serve.wsgi.
"""
