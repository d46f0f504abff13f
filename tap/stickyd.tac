"""
stickyd as a Twisted application file, to be copied and changed: ``twistd -ny stickyd.tac``.
"""

from twisted.application.service import Application

from stickyd.plugin import Options, makeService

options = Options()
# What `twistd stickyd` takes, word for word.
options.parseOptions(["--port", "3000"])

application = Application("stickyd")
makeService(options).setServiceParent(application)
