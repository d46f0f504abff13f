"""
WSGI applications, in threads.
"""
