"""
Applications that cannot be served, each in its own way.
"""
