-- Keeps a new function.
-- KEYS: 1 the function, 2 its tenant's names, 3 its tenant's bytes of code, 4 its tenant's change log
-- ARGV: 1 record, 2 name, 3 bytes of its package, 4 most bytes of the tenant, 5 generation, 6 length of the change log,
--       7 its revision
-- Answers: "ok", "exists" or "code-storage"; nothing is changed but by "ok".
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 'exists'
end
if tonumber(redis.call('GET', KEYS[3]) or '0') + tonumber(ARGV[3]) > tonumber(ARGV[4]) then
  return 'code-storage'
end
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'revision', ARGV[7], 'bytes', ARGV[3])
redis.call('ZADD', KEYS[2], 0, ARGV[2])
redis.call('INCRBY', KEYS[3], ARGV[3])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[6], '*', 'name', ARGV[2], 'generation', ARGV[5])
return 'ok'
