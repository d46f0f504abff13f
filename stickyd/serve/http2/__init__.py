"""
HTTP/2 for Twisted resources.
"""
