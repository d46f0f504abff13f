"""
Holding a primary at one moment of its upgrade.
"""
