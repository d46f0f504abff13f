"""
The worker process: adoption of connections and their transport.
"""
