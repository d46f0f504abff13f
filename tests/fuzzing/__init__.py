"""
Fuzzing by coverage: ``python -m tests.fuzzing TARGET --seconds N``.
"""
