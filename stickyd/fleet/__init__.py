"""
The primary's side of the worker processes: slots, spawning, supervision.
"""
