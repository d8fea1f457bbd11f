#!lua flags=allow-oom
-- Ends leases of one queue: the item is done, can be leased again later, or is dead; and queues what follows from that.
-- Allowed while memory is full.
-- KEYS: 1 the tenant's index of queues, 2 delayed ids by time, 3 leased ids by end of the lease, 4 tokens, 5 values,
--       6 states, 7 dead ids by time, 8 queues with dead items, then for each queue that something follows in: its fresh ids, its values
-- ARGV: 1 name of the queue, 2 now, 3 dead items that died before this are forgotten, 4 most dead items,
--       5 channel on which pollers listen, 6 the tenant, 7 how many queues something follows in, then their names,
--       then for each item: id, token, "done", "delayed" or "dead", until when it is delayed, its state,
--       how many items follow, then each: which of the queues (from 1), its id, its value
-- Answers: which of the items (from 0) had no such lease any more; nothing is changed for these, and nothing follows.
local queues = tonumber(ARGV[7])
local number, late, ended, done, due, fresh = 0, {}, {}, {}, nil, {}
local at = 8 + queues
while at <= #ARGV do
  local id, verdict, follow = ARGV[at], ARGV[at + 2], tonumber(ARGV[at + 5])
  if not ended[id] and redis.call('HGET', KEYS[4], id) == ARGV[at + 1] then
    ended[id] = true
    ended[#ended + 1] = id
    if verdict == 'done' then
      done[#done + 1] = id
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
      fresh[queue] = fresh[queue] or {}
      if redis.call('HSETNX', KEYS[8 + 2 * queue], ARGV[each + 1], ARGV[each + 2]) == 1 then
        table.insert(fresh[queue], ARGV[each + 1])
      end
    end
  else
    late[#late + 1] = number
  end
  number = number + 1
  at = at + 6 + 3 * follow
end
if #ended > 0 then
  redis.call('HDEL', KEYS[4], unpack(ended))
  redis.call('ZREM', KEYS[3], unpack(ended))
end
if #done > 0 then
  redis.call('HDEL', KEYS[5], unpack(done))
  redis.call('HDEL', KEYS[6], unpack(done))
end
if due then
  redis.call('ZADD', KEYS[1], 'LT', string.format('%d', due), ARGV[1])
end
for queue, ids in pairs(fresh) do
  announce(KEYS[1], ARGV[2], ARGV[7 + queue], enqueue(KEYS[7 + 2 * queue], ids), ARGV[5], ARGV[6])
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
return late
