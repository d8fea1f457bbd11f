-- Keeps a changed function, if nobody else changed it since.
-- KEYS: 1 the function, 2 its tenant's bytes of code, 3 its tenant's change log
-- ARGV: 1 record, 2 name, 3 bytes of its package, 4 most bytes of the tenant, 5 generation, 6 length of the change log,
--       7 the revision that it must still have, 8 its new revision
-- Answers: "ok", "missing", "revision" or "code-storage"; nothing is changed but by "ok".
local current = redis.call('HMGET', KEYS[1], 'revision', 'bytes')
if not current[1] then
  return 'missing'
end
if current[1] ~= ARGV[7] then
  return 'revision'
end
local added = tonumber(ARGV[3]) - tonumber(current[2])
if added > 0 and tonumber(redis.call('GET', KEYS[2]) or '0') + added > tonumber(ARGV[4]) then
  return 'code-storage'
end
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'revision', ARGV[8], 'bytes', ARGV[3])
redis.call('INCRBY', KEYS[2], added)
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 'name', ARGV[2], 'generation', ARGV[5])
return 'ok'
