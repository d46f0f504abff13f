"""
One worker process, seen from the primary.
"""
