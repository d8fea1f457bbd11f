-- Keeps a new function.
-- KEYS: 1 the function, 2 its tenant's names, 3 its tenant's bytes of code, 4 its tenant's change log
-- ARGV: 1 name, 2 bytes of its packages, 3 most bytes of the tenant, 4 generation, 5 length of the change log,
--       then the fields of the function, each followed by its value
-- Answers: "ok", "exists" or "code-storage"; nothing is changed but by "ok".
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 'exists'
end
if tonumber(redis.call('GET', KEYS[3]) or '0') + tonumber(ARGV[2]) > tonumber(ARGV[3]) then
  return 'code-storage'
end
redis.call('HSET', KEYS[1], 'bytes', ARGV[2], unpack(ARGV, 6))
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('INCRBY', KEYS[3], ARGV[2])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[5], '*', 'name', ARGV[1], 'generation', ARGV[4], 'version', '')
return 'ok'
