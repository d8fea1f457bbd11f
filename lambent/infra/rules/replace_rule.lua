-- Keeps what a rule is from now on.
-- KEYS: 1 its tenant's rules
-- ARGV: 1 name, 2 revision that it must have; empty: there must be none, 3 record; empty: it ends, 4 most rules
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
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 'done'
