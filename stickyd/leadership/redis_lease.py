"""
The lease that makes one leader of those of all machines: kept in Redis or Valkey.

Theory of operation.  On each machine one worker may lead, as its primary says; of those one holds
the lease, which is one hash: who holds it, until when by the server's clock, for which term.  The
holder is the fleet and not the worker: when a leader dies its machine's next one goes on at once,
as the primary knows for sure that it is dead.  Another machine has to wait until the lease has run
out.  A holder counts its time from before it asked, so it gives up before anybody else may begin.

A server that was started anew, or took over from another one, may have forgotten that somebody
holds it.  It has another ``run_id`` then, and for as long as a lease lasts nobody begins but the
fleet that holds the last term: its leader knows that, and its primary, which is told of each
renewal, for the next leader.

Terms grow whatever the server has forgotten: a new one is at least the time of day in
milliseconds.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import MovedError, RedisError

from stickyd.redis.connecting import connect, end_connection, make_connection

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from stickyd.redis.url import RedisAddress

#: How long a lease lasts.
LEASE_SECONDS = 5.0

#: The part of it that a holder believes in: clocks run at different speeds.
_TRUSTED = 0.9

#: Seconds that the server may take for one answer.
ANSWER_SECONDS = 1.0

#: What goes wrong with a server that is away.
BROKEN = (RedisError, OSError, EOFError, asyncio.TimeoutError)

_KNOWN = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HMGET', KEYS[1], 'holder', 'term', 'until', 'run')
local last = tonumber(known[2] or 0) or 0
local function write(holder, term, ends)
  redis.call('HSET', KEYS[1], 'holder', holder, 'term', string.format('%.0f', term),
             'until', string.format('%.0f', ends), 'run', ARGV[3])
end
"""

#: Holder, milliseconds, run, least term, the term for which the holder has it by all it knows or 0:
#: the term, or 0 and the milliseconds to wait.
ACQUIRE = (
    _KNOWN
    + """
local ends = tonumber(known[3] or 0) or 0
local held = tonumber(ARGV[5])
local anew = known[4] ~= ARGV[3]
local forgotten = anew or (known[1] == '' and ends > now)
if not (forgotten and held > 0 and held >= last) then
  if anew then
    write('', last, now + ARGV[2])
    return {0, tonumber(ARGV[2])}
  end
  if ends > now and known[1] ~= ARGV[1] then return {0, ends - now} end
end
local term = math.max(last + 1, held + 1, tonumber(ARGV[4]))
write(ARGV[1], term, now + ARGV[2])
return {string.format('%.0f', term), 0}
"""
)

#: Holder, milliseconds, run, term: 1, or 0 if somebody else has it.
RENEW = (
    _KNOWN
    + """
local term = tonumber(ARGV[4])
local forgotten = known[4] ~= ARGV[3] or known[1] == ''
if term < last or (known[1] ~= ARGV[1] and not forgotten) or (term > last and not forgotten) then
  return 0
end
write(ARGV[1], term, now + ARGV[2])
return 1
"""
)

#: Holder, milliseconds, run, term.
RELEASE = (
    _KNOWN
    + """
if known[1] == ARGV[1] and last == tonumber(ARGV[4]) then write('', last, 0) end
return 1
"""
)


class RedisLease:
    """
    One worker's way to the lease.  Used in an asyncio loop; one call at a time.
    """

    def __init__(self, address: RedisAddress, lease_seconds: float = LEASE_SECONDS) -> None:
        self._address = address
        self._lease_ms = int(lease_seconds * 1000)
        self._trusted_seconds = lease_seconds * _TRUSTED
        self._key = f"{address.prefix}leader"
        self._connection: AbstractConnection | None = None
        self._run = ""

    async def acquire(self, holder: str, held_term: int = 0) -> tuple[int, float]:
        """
        Ask for it.

        :param holder: the fleet.
        :param held_term: for which the fleet still has it, by its own clock; else 0.
        :return: the term, and until when it holds by :func:`time.monotonic`; or 0, and how many
            seconds somebody else may have it.
        :raises: one of :data:`BROKEN`, if that cannot be known.
        """
        until = time.monotonic() + self._trusted_seconds
        least = int(time.time() * 1000)
        term, wait_ms = await self._evaluate(ACQUIRE, holder, least, held_term)
        return (int(term), until) if int(term) else (0, wait_ms / 1000)

    async def renew(self, holder: str, term: int) -> float:
        """
        Keep it.

        :return: until when it holds; 0.0 if it is somebody else's.
        :raises: one of :data:`BROKEN`, if that cannot be known.
        """
        until = time.monotonic() + self._trusted_seconds
        return until if await self._evaluate(RENEW, holder, term) else 0.0

    async def release(self, holder: str, term: int) -> None:
        """
        Give it up, if it is this one's.

        :raises: one of :data:`BROKEN`, if that cannot be known.
        """
        await self._evaluate(RELEASE, holder, term)

    async def close(self) -> None:
        """
        End the connection.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            await end_connection(connection)

    async def _evaluate(self, script: str, holder: str, *terms: int) -> Any:
        try:
            return await asyncio.wait_for(self._ask(script, holder, *terms), ANSWER_SECONDS)
        except MovedError as elsewhere:
            # A Cluster: another node has the key.
            await self.close()
            self._connection = make_connection(self._address, elsewhere.host, elsewhere.port)
            return await asyncio.wait_for(self._ask(script, holder, *terms), ANSWER_SECONDS)
        except BaseException:
            # Whoever is cancelled in the middle leaves an answer behind that is nobody's.
            await self.close()
            raise

    async def _ask(self, script: str, holder: str, *terms: int) -> Any:
        if self._connection is None:
            self._connection = await connect(self._address)
            self._run = ""
        if not self._run:
            self._run = _run_id(await self._say("INFO", "server"))
        words = (script, "1", self._key, holder, str(self._lease_ms), self._run)
        return await self._say("EVAL", *words, *map(str, terms))

    async def _say(self, *words: str) -> Any:
        connection = self._connection
        assert connection is not None
        await connection.send_command(*words, check_health=False)
        return await connection.read_response()


def _run_id(info: bytes) -> str:
    for line in info.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name == "run_id":
            return value.strip()
    raise RedisError("the server does not say which run of itself it is")
