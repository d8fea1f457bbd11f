#!lua flags=allow-oom
-- Ends leases of one queue: the item is done, can be leased again later, or is dead. Allowed while memory is full.
-- KEYS: 1 the tenant's index of queues, 2 delayed ids by time, 3 leased ids by end of the lease, 4 tokens, 5 values,
--       6 states, 7 dead ids by time
-- ARGV: 1 name of the queue, 2 now, 3 dead items that died before this are forgotten, 4 most dead items,
--       then for each item: id, token, "done", "delayed" or "dead", until when it is delayed, its state
-- Answers: the ids whose lease was still held; nothing is changed for any other.
local settled, due = {}, nil
for at = 5, #ARGV, 5 do
  local id, verdict = ARGV[at], ARGV[at + 2]
  if redis.call('HGET', KEYS[4], id) == ARGV[at + 1] then
    redis.call('HDEL', KEYS[4], id)
    redis.call('ZREM', KEYS[3], id)
    if verdict == 'done' then
      redis.call('HDEL', KEYS[5], id)
      redis.call('HDEL', KEYS[6], id)
    else
      redis.call('HSET', KEYS[6], id, ARGV[at + 4])
      if verdict == 'delayed' then
        redis.call('ZADD', KEYS[2], ARGV[at + 3], id)
        due = math.min(due or math.huge, tonumber(ARGV[at + 3]))
      else
        redis.call('ZADD', KEYS[7], ARGV[2], id)
      end
    end
    settled[#settled + 1] = id
  end
end
if due then
  redis.call('ZADD', KEYS[1], 'LT', string.format('%d', due), ARGV[1])
end
-- A hundred at a time is more than one call can add, so that none stay behind for long.
local function forget(ids)
  for _, id in ipairs(ids) do
    redis.call('ZREM', KEYS[7], id)
    redis.call('HDEL', KEYS[5], id)
    redis.call('HDEL', KEYS[6], id)
  end
end
forget(redis.call('ZRANGE', KEYS[7], '-inf', ARGV[3], 'BYSCORE', 'LIMIT', 0, 100))
local over = redis.call('ZCARD', KEYS[7]) - tonumber(ARGV[4])
if over > 0 then
  forget(redis.call('ZRANGE', KEYS[7], 0, math.min(over, 1000) - 1))
end
return settled
