"""
Sessions for twisted.web.
"""
