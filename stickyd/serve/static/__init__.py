"""
Static files.
"""
