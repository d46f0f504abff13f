"""
The bus: messages between the workers of a fleet, through the primary.
"""
