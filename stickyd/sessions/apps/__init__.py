"""
Sessions for applications of ASGI and WSGI.
"""
