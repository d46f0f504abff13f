"""
Commands and answers on a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio.connection import AbstractConnection


async def converse(connection: AbstractConnection, words: Sequence[Sequence[Any]]) -> list[Any]:
    """
    Send commands, and read as many answers; errors of the server's are among them.
    """
    await connection.send_packed_command(packed(words), check_health=False)
    answers: list[Any] = []
    for _ in words:
        try:
            answers.append(await connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers


def packed(words: Sequence[Sequence[Any]]) -> bytes:
    """
    Write commands as RESP has them: each an array of bulk strings.  A third of what the
    library takes for it, which is most of the way from here to there.
    """
    parts = []
    for command in words:
        parts.append(b"*%d\r\n" % len(command))
        for word in command:
            text = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join(parts)
