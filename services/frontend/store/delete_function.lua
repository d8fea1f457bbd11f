-- Forgets a function.
-- KEYS: 1 the function, 2 its tenant's names, 3 its tenant's bytes of code, 4 its tenant's change log
-- ARGV: 1 name, 2 generation of the deletion, 3 length of the change log
-- Answers: 1, or 0 if there is none.
local bytes = redis.call('HGET', KEYS[1], 'bytes')
if not bytes then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('DECRBY', KEYS[3], bytes)
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[3], '*', 'name', ARGV[1], 'generation', ARGV[2])
return 1
