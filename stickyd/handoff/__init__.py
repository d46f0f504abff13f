"""
Passing connections from the primary to a worker, both ends.
"""
