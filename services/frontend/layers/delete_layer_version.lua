-- Forgets a version of a layer, with its policy. The layer itself stays, as its numbers must go on.
-- KEYS: 1 the layer, 2 its tenant's names of layers, 3 its tenant's bytes of code, 4 its policies
-- ARGV: 1 name, 2 number, 3 bytes of its package
-- Answers: 1, or 0 where it has gone already.
if redis.call('HDEL', KEYS[1], 'version:' .. ARGV[2]) == 0 then
  return 0
end
redis.call('HDEL', KEYS[4], ARGV[2])
redis.call('DECRBY', KEYS[3], ARGV[3])
if redis.call('HLEN', KEYS[1]) == 1 then
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return 1
