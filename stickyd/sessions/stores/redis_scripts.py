"""
What Redis does for us, in Lua: each script reads and writes one key, in one step.

A session is a hash with the fields

- ``v`` version, ``n`` nonce of whoever wrote it, ``d`` data,
- ``m`` metadata: a JSON array of ``idle``, the time when its lifetime is over, ``created``,
  ``lifetime``, ``secure``, the affinity key in base64; :obj:`None` stands for ``inf``,
- ``t`` when it was last used, in seconds since 1970.

The alias that an id becomes when the session gets another is a hash with ``a``, the hash of
the other id, and its own ``m`` and ``t``.

Times are those of the worker that calls: whether a session is over is asked with its clock,
and the key goes by itself after as many milliseconds as are left, so that the clock of the
server does not matter.  A script that is repeated does no harm; see :data:`SAVE`.
"""

from __future__ import annotations

from hashlib import sha1

GONE = 0
"""
What a script answers if there is no such session.
"""

CONFLICT = -1
"""
What :data:`SAVE` answers if the session has another version.
"""

TOO_LATE = -2
"""
What :data:`SAVE` answers if the command for a new session came too late.
"""

_COMMON = """\
local key = KEYS[1]
local function read()
  local h = redis.call('HMGET', key, 'v', 'n', 't', 'm', 'a')
  return {v = h[1], n = h[2], t = h[3], m = h[4], a = h[5]}
end
local function ends(meta, touched)
  local done, m = pcall(cjson.decode, meta)
  if not done or type(m) ~= 'table' or not touched then return nil end
  local due = math.huge
  if type(m[1]) == 'number' then due = touched + m[1] end
  if type(m[2]) == 'number' and m[2] < due then due = m[2] end
  return due
end
local function keep(due, now)
  local left = due - now
  if left > 1e11 then
    redis.call('PERSIST', key)
  else
    redis.call('PEXPIRE', key, string.format('%.0f', math.max(1, math.ceil(left * 1000))))
  end
end
"""

SAVE = (
    _COMMON
    + """\
local version, nonce, now, touched = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local meta, data, until_ms = ARGV[5], ARGV[6], tonumber(ARGV[7])
local old, due = read(), nil
if old.v and nonce ~= '' and tonumber(old.v) == version + 1 and old.n == nonce then
  redis.call('HSET', key, 'n', nonce)
  return old.t
end
if old.v or old.a then
  due = ends(old.m, tonumber(old.t))
  if due == nil then return -1 end
  if due <= now then
    redis.call('DEL', key)
    old = {}
  end
end
if old.a then return -1 end
if old.v then
  if tonumber(old.v) ~= version then return -1 end
  if tonumber(old.t) > tonumber(touched) then touched = old.t end
else
  if version > 0 then return 0 end
  local clock = redis.call('TIME')
  if until_ms > 0 and clock[1] * 1000 + clock[2] / 1000 > until_ms then return -2 end
end
redis.call('HSET', key, 'v', version + 1, 'n', nonce, 't', touched, 'm', meta, 'd', data)
keep(ends(meta, tonumber(touched)), now)
return touched
"""
)
"""
Store a session, if its version is the one that was loaded.

Arguments: the version that was loaded, nonce, now, when it was last used, metadata, data, and
until when the server takes a new one (milliseconds by its own clock; 0 for always): a command
that stayed in a dead connection must not bring back what was deleted since.

Returns when it was last used, as stored; or :data:`GONE`, :data:`CONFLICT` (for an alias too),
:data:`TOO_LATE`.  What was stored by this very nonce is stored: the repeat writes the nonce
again, so that ``WAIT`` behind it waits for the first write too.
"""

TOUCH = (
    _COMMON
    + """\
local now = tonumber(ARGV[1])
local old = read()
if not old.v then return 0 end
local due = ends(old.m, tonumber(old.t))
if due == nil or due <= now then return 0 end
if tonumber(old.t) < now then
  redis.call('HSET', key, 't', ARGV[1])
  keep(ends(old.m, now), now)
end
return 1
"""
)
"""
Note a use.  Argument: now.  Returns 1, or :data:`GONE` if there is no session, or it is over.
"""

DELETE = (
    _COMMON
    + """\
local now = tonumber(ARGV[1])
local old = read()
if not old.v and not old.a then return 0 end
local due = ends(old.m, tonumber(old.t))
if due == nil then return 0 end
if due <= now then
  redis.call('DEL', key)
  return 0
end
if old.a and ARGV[2] ~= old.a then return old.a end
redis.call('DEL', key)
return 1
"""
)
"""
Remove a session, or an alias.  Arguments: now, what the alias leads to, or nothing.  Returns 1,
or :data:`GONE` if there was none, or it was over.  Of an alias to something else it returns
what it leads to, and leaves it: it must be there still if the command is repeated.
"""

ALIAS = (
    _COMMON
    + """\
local version, now, target, meta = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local old = read()
if not old.v and not old.a then return 0 end
local due = ends(old.m, tonumber(old.t))
if due == nil then return -1 end
if due <= now then return 0 end
if old.a then
  if old.a ~= target then return -1 end
  redis.call('HSET', key, 'a', target)
  return 1
end
if tonumber(old.v) ~= version then return -1 end
redis.call('DEL', key)
redis.call('HSET', key, 'a', target, 't', ARGV[2], 'm', meta)
keep(ends(meta, now), now)
return 1
"""
)
"""
Put an alias in the place of a session.  Arguments: the session's version, now, what it leads
to, metadata.  Returns 1, :data:`GONE` or :data:`CONFLICT`.
"""

SCRIPTS = (SAVE, TOUCH, DELETE, ALIAS)


def digest(script: str) -> str:
    """
    What ``EVALSHA`` calls a script.
    """
    return sha1(script.encode("ascii"), usedforsecurity=False).hexdigest()
