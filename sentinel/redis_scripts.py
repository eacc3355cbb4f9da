"""What Redis itself decides, in Lua: whatever must look at a key and change it at once.

Each script touches one key, or a claim and the label index of the same transaction, which share a
slot. They are called by their hashes; ``sentinel.redis_link`` sends the text to a Redis that does
not know them yet. 64-bit numbers stay strings of 8 bytes: Lua's own numbers hold 53 bits.
"""

import hashlib

SOURCES: dict[bytes, str] = {}
"""The text of every script, by what it is called with."""


def _script(source: str) -> bytes:
    digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest().encode()
    SOURCES[digest] = source
    return digest


CLAIM = _script("""
-- KEYS: claim. ARGV: digest, event, holder (8 bytes each), row, window and lease in milliseconds.
-- Returns 8 bytes, the event id, to whoever is to score it; the answer; or 2 (busy), 3 (conflict).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local mine = ARGV[3] .. struct.pack('<I4d', tonumber(ARGV[4]), now + tonumber(ARGV[6]))
local held = redis.call('GET', KEYS[1])
if not held then
  redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2] .. mine, 'PX', ARGV[5])
  return ARGV[2]
end
if string.sub(held, 1, 8) ~= ARGV[1] then return 3 end
if #held > 36 then return string.sub(held, 37) end
local holder = string.sub(held, 17, 24)
if holder ~= '\\0\\0\\0\\0\\0\\0\\0\\0' then
  local row, lease = struct.unpack('<I4d', held, 25)
  -- The same call made again has the same rows; a later row of this call is a twin.
  if holder == ARGV[3] then
    if row < tonumber(ARGV[4]) then return 2 end
  elseif now < lease then
    return 2
  end
end
redis.call('SETRANGE', KEYS[1], 16, mine)
return string.sub(held, 9, 16)
""")
"""``identity.Claims.claim`` for one transaction. The claim: digest, event id, holder (0: nobody's),
row and end of the lease, then the answer, if there is one."""

SETTLE = _script("""
-- KEYS: claim, index. ARGV: holder, answer (may be empty), event, entry, milliseconds to live.
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 17, 24) == ARGV[1] then
  local free = string.sub(held, 1, 16) .. '\\0\\0\\0\\0\\0\\0\\0\\0' .. string.sub(held, 25, 36)
  redis.call('SET', KEYS[1], free .. ARGV[2], 'KEEPTTL')
end
redis.call('HSETNX', KEYS[2], ARGV[3], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 1
""")
"""Ends a claim and notes where its events are. An index entry that is there stays: it may have been
labelled."""

APPEND = _script("""
-- KEYS: entity. ARGV: records, milliseconds to live.
redis.call('APPEND', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
""")
"""More records of an entity."""

REPLACE = _script("""
-- KEYS: entity. ARGV: SHA-1 of the records that were read, what to put in their place, records to
-- append if they have changed since, milliseconds to live.
local held = redis.call('GET', KEYS[1]) or ''
if redis.sha1hex(held) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4])
  return 1
end
redis.call('APPEND', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 0
""")
"""A shorter form of an entity's records, unless another router was faster."""

CORRECT = _script("""
-- KEYS: index. ARGV: event, entry as it was read, entry to put in its place.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
""")
"""A label noted in the index, unless another came in between."""

SEE = _script("""
-- KEYS: index. ARGV: event, entry, milliseconds to live.
for _, entry in ipairs(redis.call('HVALS', KEYS[1])) do
  if string.sub(entry, 1, 8) == string.sub(ARGV[2], 1, 8) then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
""")
"""A transaction from a snapshot; one of the same id and moment was seen live, and stays."""
