"""
The worker process: what it takes from the primary, has served, and gives away.
"""
