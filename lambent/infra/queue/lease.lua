#!lua flags=allow-oom
-- Leases items of one queue: first what was leased and whose lease ran out, and what is due again, then fresh ones.
-- Allowed while memory is full, or nothing could ever leave the queue.
-- KEYS: 1 the tenant's index of queues, 2 fresh ids, 3 delayed ids by time, 4 leased ids by end of the lease,
--       5 tokens, 6 values, 7 states, 8 the tenant's last lease,
--       9 paused queues, 10 priorities
-- ARGV: 1 name of the queue, 2 now, 3 end of the leases, 4 who leases, 5 most items
-- Answers: when something can be leased again (-1: never), the token, the queue's priority, then the lengths of what
-- follows, with commas: for each item its id, value and state; and these, one behind the other.
local priority = redis.call('HGET', KEYS[10], ARGV[1]) or '0'
if redis.call('HEXISTS', KEYS[9], ARGV[1]) == 1 then
  redis.call('ZREM', KEYS[1], ARGV[1])
  return { '-1', '', priority, '', '' }
end
local count = tonumber(ARGV[5])
for _, id in ipairs(redis.call('ZRANGE', KEYS[4], '-inf', ARGV[2], 'BYSCORE', 'LIMIT', 0, 1000)) do
  redis.call('ZREM', KEYS[4], id)
  redis.call('HDEL', KEYS[5], id)
  redis.call('ZADD', KEYS[3], ARGV[2], id)
end
local ids = redis.call('ZRANGE', KEYS[3], '-inf', ARGV[2], 'BYSCORE', 'LIMIT', 0, count)
if #ids > 0 then
  redis.call('ZREM', KEYS[3], unpack(ids))
end
if #ids < count then
  for _, id in ipairs(redis.call('LPOP', KEYS[2], count - #ids) or {}) do
    ids[#ids + 1] = id
  end
end
local token, sizes, parts = '', {}, {}
if #ids > 0 then
  token = redis.call('INCR', KEYS[8]) .. ' ' .. ARGV[4]
  local values, states = redis.call('HMGET', KEYS[6], unpack(ids)), redis.call('HMGET', KEYS[7], unpack(ids))
  local ends, tokens = {}, {}
  for at, id in ipairs(ids) do
    if values[at] then
      ends[#ends + 1], ends[#ends + 2] = ARGV[3], id
      tokens[#tokens + 1], tokens[#tokens + 2] = id, token
      for _, part in ipairs({ id, values[at], states[at] or '' }) do
        sizes[#sizes + 1], parts[#parts + 1] = #part, part
      end
    end
  end
  if #ends > 0 then
    redis.call('ZADD', KEYS[4], unpack(ends))
    redis.call('HSET', KEYS[5], unpack(tokens))
  end
end
local due = nil
if redis.call('EXISTS', KEYS[2]) == 1 then
  due = tonumber(ARGV[2])
else
  for key = 3, 4 do
    local first = redis.call('ZRANGE', KEYS[key], 0, 0, 'WITHSCORES')[2]
    if first and (not due or tonumber(first) < due) then
      due = tonumber(first)
    end
  end
end
if due then
  due = string.format('%d', due)
  redis.call('ZADD', KEYS[1], due, ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return { due or '-1', token, priority, table.concat(sizes, ','), table.concat(parts) }
