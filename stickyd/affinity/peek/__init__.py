"""
Who the client is, from the first bytes of its connection: parsers that say what they still need.
"""
