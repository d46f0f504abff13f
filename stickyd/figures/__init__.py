"""
What is counted, where, and how it is added up: requests, connections, queues, restarts.
"""
