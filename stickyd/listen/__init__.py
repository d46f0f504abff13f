"""
The first step of a connection: accepting it in the primary.
"""
