"""
Where sessions are kept.
"""
