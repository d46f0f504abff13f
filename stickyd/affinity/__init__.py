"""
Who the client is: affinity keys, without any I/O.
"""
