"""
What serves an adopted connection: the hosts.
"""
