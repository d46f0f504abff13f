"""
A chat by lines of text, and no HTTP: all who are connected to a worker hear each other.
"""

from __future__ import annotations

import os

from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from typing_extensions import override


class Member(LineOnlyReceiver):
    """
    One of them.
    """

    members: set[Member]

    @override
    def connectionMade(self) -> None:
        self.members.add(self)
        self.sendLine(b"welcome to %d" % os.getpid())

    @override
    def lineReceived(self, line: bytes) -> None:
        for member in self.members:
            member.sendLine(line)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.members.discard(self)


def chat() -> Factory[Member]:
    """
    Make the factory.
    """
    factory = Factory.forProtocol(Member)
    Member.members = set()
    return factory
