-- Keeps a new event source mapping.
-- KEYS: 1 its tenant's mappings, 2 its tenant's pairs of source and function
-- ARGV: 1 UUID, 2 record, 3 pair
-- Answers: nothing; or the UUID of the mapping that has the pair, and nothing is changed.
local other = redis.call('HGET', KEYS[2], ARGV[3])
if other then
  return other
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[1])
return false
