-- Keeps what a record is from now on.
-- KEYS: 1 its tenant's records, 2 their keys
-- ARGV: 1 key, 2 revision that it must have; empty: there must be none, 3 record; empty: it ends, 4 most records
-- Answers: done; changed, where it has another revision, is no more or is there; or full. Unless it is done, nothing is
-- changed.
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[2] == '' then
  if kept then
    return 'changed'
  end
  if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
    return 'full'
  end
elseif not kept or cjson.decode(kept).revision ~= tonumber(ARGV[2]) then
  return 'changed'
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
end
return 'done'
