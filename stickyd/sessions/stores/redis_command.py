"""
One command to a Redis server.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred


class RedisCommand:
    """
    A command on one key.

    :ivar key: the key.
    :ivar words: the command.
    :ivar writes: whether replicas are waited for.
    :ivar fenced: whether its last word shall say until when the server may do it.
    :ivar size: its bytes, about.
    :ivar reply: fires with what the server answers, or fails with
        :exc:`stickyd.errors.StoreAway`, or with an error of the server's.
    :ivar asking: whether it goes to a node that is just getting its key.
    :ivar attempts: how often it was sent to somebody who may have done it.
    :ivar hops: how many nodes have sent it on.
    """

    __slots__ = ("asking", "attempts", "fenced", "hops", "key", "reply", "size", "words", "writes")

    def __init__(
        self,
        key: bytes,
        words: list[Any],
        writes: bool = False,
        fenced: bool = False,
        size: int = 200,
    ) -> None:
        """
        :param fenced: the last word is set when it is sent, in milliseconds by the server's
            clock.
        """
        self.key = key
        self.words = words
        self.writes = writes
        self.fenced = fenced
        self.size = size
        self.reply: Deferred[Any] = Deferred()
        self.asking = False
        self.attempts = 0
        self.hops = 0

    def answer(self, reply: Any) -> None:
        """
        Give it its answer; an error fails it.  Nothing happens if it has one.
        """
        if self.reply.called:
            return
        if isinstance(reply, Exception):
            self.reply.errback(reply)
        else:
            self.reply.callback(reply)
