-- What append.lua and settle.lua share; put in front of them when they are loaded.

-- Puts ids at the end of a queue's fresh ones. Answers whether there are any, and it had nothing fresh before.
local function enqueue(fresh, ids)
  return #ids > 0 and redis.call('RPUSH', fresh, unpack(ids)) == #ids
end

-- Something can be leased of a queue from a time on. `woken`: it had nothing fresh before, which pollers are told.
local function announce(index, due, name, woken, channel, tenant)
  redis.call('ZADD', index, 'LT', due, name)
  if woken then
    redis.call('PUBLISH', channel, tenant .. ' ' .. name)
  end
end
