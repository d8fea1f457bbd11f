#!lua flags=allow-oom
-- Ends leases of one queue: the item is done, can be leased again later, or is dead; and queues what follows from that.
-- Allowed while memory is full.
-- KEYS: 1 the tenant's index of queues, 2 delayed ids by time, 3 leased ids by end of the lease, 4 tokens, 5 values,
--       6 states, 7 dead ids by time, 8 queues with dead items, then for each queue that something follows in: its fresh ids, its values
-- ARGV: 1 name of the queue, 2 now, 3 dead items that died before this are forgotten, 4 most dead items,
--       5 channel on which pollers listen, 6 the tenant, 7 how many queues something follows in, then their names,
--       then for each item: id, token, "done", "delayed" or "dead", until when it is delayed, its state,
--       how many items follow, then each: which of the queues (from 1), its id, its value
-- Answers: the ids whose lease was still held; nothing is changed for any other, and nothing follows from it.
local queues = tonumber(ARGV[7])
local settled, due, woken, followed = {}, nil, {}, {}
local at = 8 + queues
while at <= #ARGV do
  local id, verdict, follow = ARGV[at], ARGV[at + 2], tonumber(ARGV[at + 5])
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
        redis.call('SADD', KEYS[8], ARGV[1])
      end
    end
    for each = at + 6, at + 3 + 3 * follow, 3 do
      local queue = tonumber(ARGV[each])
      followed[queue] = true
      if enqueue(KEYS[7 + 2 * queue], KEYS[8 + 2 * queue], ARGV[each + 1], ARGV[each + 2]) == 1 then
        woken[queue] = true
      end
    end
    settled[#settled + 1] = id
  end
  at = at + 6 + 3 * follow
end
if due then
  redis.call('ZADD', KEYS[1], 'LT', string.format('%d', due), ARGV[1])
end
for queue, _ in pairs(followed) do
  announce(KEYS[1], ARGV[2], ARGV[7 + queue], woken[queue], ARGV[5], ARGV[6])
end
local function forget(ids)
  for _, id in ipairs(ids) do
    redis.call('ZREM', KEYS[7], id)
    redis.call('HDEL', KEYS[5], id)
    redis.call('HDEL', KEYS[6], id)
  end
end
-- As many at a time as one call can add, so that none stay behind for long.
forget(redis.call('ZRANGE', KEYS[7], '-inf', ARGV[3], 'BYSCORE', 'LIMIT', 0, 1000))
local over = redis.call('ZCARD', KEYS[7]) - tonumber(ARGV[4])
if over > 0 then
  forget(redis.call('ZRANGE', KEYS[7], 0, math.min(over, 1000) - 1))
end
return settled
