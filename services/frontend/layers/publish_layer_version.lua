-- Keeps a layer's next version.
-- KEYS: 1 the layer, 2 its tenant's names of layers, 3 its tenant's bytes of code
-- ARGV: 1 name, 2 the version's content, 3 bytes of its package, 4 most bytes of the tenant
-- Answers: its number, greater than all before it; or 0, and nothing is changed: the tenant's packages would be too large.
if tonumber(redis.call('GET', KEYS[3]) or '0') + tonumber(ARGV[3]) > tonumber(ARGV[4]) then
  return 0
end
local number = redis.call('HINCRBY', KEYS[1], 'last', 1)
redis.call('HSET', KEYS[1], 'version:' .. number, ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('INCRBY', KEYS[3], ARGV[3])
return number
