-- What append.lua and settle.lua share; put in front of them when they are loaded.

-- Queues an item unless it is there. Answers how many fresh ones the queue has with it; 0: it was there.
local function enqueue(fresh, values, id, value)
  if redis.call('HSETNX', values, id, value) == 0 then
    return 0
  end
  return redis.call('RPUSH', fresh, id)
end

-- Something can be leased of a queue from a time on. `woken`: it had nothing fresh before, which pollers are told.
local function announce(index, due, name, woken, channel, tenant)
  redis.call('ZADD', index, 'LT', due, name)
  if woken then
    redis.call('PUBLISH', channel, tenant .. ' ' .. name)
  end
end
