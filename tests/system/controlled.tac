"""
A server inside another Twisted program, which drains slots when it is told to.

There is no signal for that; a program that embeds the service calls its operations.
"""

import json
import os
import socket

from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from stickyd.plugin import Options, makeService
from stickyd.service import StickyService


class Control(LineOnlyReceiver):
    """
    Takes a command a line, and answers each with the reason why it was not done.
    """

    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:  # noqa: N802 - Twisted's name
        """
        Called with each command.
        """
        name, _, argument = line.decode().partition(" ")
        done = getattr(sticky.operations, name)(*([int(argument)] if argument else []))
        done.addBoth(self._answer)

    def _answer(self, outcome: object) -> None:
        if isinstance(outcome, Failure):
            outcome = outcome.getErrorMessage()
        text = outcome if isinstance(outcome, str) else "; ".join(outcome)
        self.sendLine(text.encode())


options = Options()
options.parseOptions(json.loads(os.environ["STICKYD_TEST_OPTIONS"]))
service = makeService(options)
(sticky,) = (part for part in service if isinstance(part, StickyService))

descriptor = int(os.environ["STICKYD_TEST_CONTROL"])
reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, Factory.forProtocol(Control))
# As the upgraded program takes it over by the same number, it must stay there.
os.set_inheritable(descriptor, True)

application = Application("embedded")
service.setServiceParent(application)
