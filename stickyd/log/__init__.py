"""
The log: the names of its events, how they are written, and where.
"""
