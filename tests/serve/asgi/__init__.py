"""
Tests of stickyd.serve.asgi.
"""
