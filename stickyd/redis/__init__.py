"""
Where a Redis or Valkey is, and connections to it.
"""
