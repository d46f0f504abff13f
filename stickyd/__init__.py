"""
stickyd: a stateful web application on all cores, one client always on one worker.
"""

__version__ = "0.1.0"
