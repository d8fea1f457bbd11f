-- Changes or deletes a function, and its tenant's concurrency settings with it, if nobody else changed what was read.
-- KEYS: 1 the function, 2 its tenant's names, 3 its tenant's bytes of code, 4 its tenant's concurrency settings,
--       5 its tenant's change log
-- ARGV: 1 name, 2 bytes of code added, 3 most bytes of the tenant, 4 generation, 5 the version that is outdated,
--       6 length of the change log, 7 "delete" or "keep", 8 the revision that the settings must have, or nothing,
--       9 new settings, or nothing, 10 their revision,
--       11 how many fields must have a value, then each with it,
--       then how many fields are set, then each with its value, then the fields that are removed
-- Answers: "ok", "missing", "revision" ($LATEST has another), "conflict" (something else was changed) or
--          "code-storage"; nothing is changed but by "ok".
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 'missing'
end
local at = 12
for _ = 1, tonumber(ARGV[11]) do
  if (redis.call('HGET', KEYS[1], ARGV[at]) or '') ~= ARGV[at + 1] then
    return ARGV[at] == 'revision' and 'revision' or 'conflict'
  end
  at = at + 2
end
if ARGV[8] ~= '' and (redis.call('HGET', KEYS[4], 'revision') or '0') ~= ARGV[8] then
  return 'conflict'
end
local added = tonumber(ARGV[2])
if added > 0 and tonumber(redis.call('GET', KEYS[3]) or '0') + added > tonumber(ARGV[3]) then
  return 'code-storage'
end
if ARGV[7] == 'delete' then
  redis.call('DECRBY', KEYS[3], redis.call('HGET', KEYS[1], 'bytes'))
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  local sets = tonumber(ARGV[at])
  at = at + 1
  if sets > 0 then
    redis.call('HSET', KEYS[1], unpack(ARGV, at, at + 2 * sets - 1))
    at = at + 2 * sets
  end
  if at <= #ARGV then
    redis.call('HDEL', KEYS[1], unpack(ARGV, at))
  end
  redis.call('HINCRBY', KEYS[1], 'bytes', added)
  redis.call('INCRBY', KEYS[3], added)
end
if ARGV[9] ~= '' then
  redis.call('HSET', KEYS[4], 'state', ARGV[9], 'revision', ARGV[10])
end
redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[6], '*', 'name', ARGV[1], 'generation', ARGV[4], 'version', ARGV[5])
return 'ok'
