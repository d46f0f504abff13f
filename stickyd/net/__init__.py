"""
Sockets on any reactor: accepting, readiness, addresses, and the connection with its two faces.
"""
