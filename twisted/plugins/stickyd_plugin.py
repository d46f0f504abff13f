"""
Makes ``twistd stickyd`` known.  There must never be an ``__init__.py`` beside this file:
it would shadow Twisted's own package.
"""

from twisted.application.service import ServiceMaker

stickyd = ServiceMaker(
    "stickyd",
    "stickyd.plugin",
    "Run a stateful web application on all cores; one client always reaches one worker.",
    "stickyd",
)
