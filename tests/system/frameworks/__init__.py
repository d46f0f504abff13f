"""
One small application for each framework: ``/`` tells the worker's pid and the client's
address, in JSON; ``/boom`` raises.
"""
