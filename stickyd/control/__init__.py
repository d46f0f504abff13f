"""
Commands and figures between primary and workers, and for operators.
"""
