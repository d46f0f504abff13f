"""
Frameworks on the bus: what they ask of a shared manager, layer or bus, for all workers.
"""
