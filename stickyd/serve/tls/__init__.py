"""
TLS in the worker.
"""
