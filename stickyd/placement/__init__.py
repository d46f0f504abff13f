"""
Key to slot, without any I/O.
"""
