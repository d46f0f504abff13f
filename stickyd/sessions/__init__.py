"""
Session state and where it is kept.
"""
