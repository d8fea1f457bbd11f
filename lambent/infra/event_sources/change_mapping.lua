-- Changes an event source mapping, or ends it.
-- KEYS: 1 its tenant's mappings, 2 its tenant's pairs of source and function
-- ARGV: 1 UUID, 2 revision that it must have, 3 pair that it has, 4 record and 5 pair that it is to have; empty: it ends
-- Answers: done; changed, where it has another revision or is no more; or taken and the UUID of the mapping that has the
-- pair. Unless it is done, nothing is changed.
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if not kept or cjson.decode(kept).revision ~= tonumber(ARGV[2]) then
  return {'changed'}
end
if ARGV[4] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[3])
  return {'done'}
end
if ARGV[5] ~= ARGV[3] then
  local other = redis.call('HGET', KEYS[2], ARGV[5])
  if other then
    return {'taken', other}
  end
  redis.call('HDEL', KEYS[2], ARGV[3])
  redis.call('HSET', KEYS[2], ARGV[5], ARGV[1])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
return {'done'}
