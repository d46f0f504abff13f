"""
HTTP/1.1 for Twisted resources, on llhttp.
"""
