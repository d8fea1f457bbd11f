#!lua flags=allow-oom
-- Forgets items of one queue that are not leased. Allowed while memory is full.
-- KEYS: 1 fresh ids, 2 delayed ids by time, 3 dead ids by time, 4 values, 5 states
-- ARGV: 1 "waiting" or "dead", 2 most items
-- Answers: how many were forgotten.
local ids = {}
local function take(key)
  local some = redis.call('ZRANGE', key, 0, ARGV[2] - 1)
  if #some > 0 then
    redis.call('ZREM', key, unpack(some))
  end
  return some
end
if ARGV[1] == 'dead' then
  ids = take(KEYS[3])
else
  ids = redis.call('LPOP', KEYS[1], ARGV[2]) or {}
  if #ids == 0 then
    ids = take(KEYS[2])
  end
end
if #ids > 0 then
  redis.call('HDEL', KEYS[4], unpack(ids))
  redis.call('HDEL', KEYS[5], unpack(ids))
end
return #ids
