-- Begins to lead, if nobody does.
-- KEYS: 1 the leader, 2 the last term
-- ARGV: 1 who wants to lead, 2 milliseconds for which it leads unless it renews
-- Answers: the new term, milliseconds since 1970 but greater than all before it; 0 if another leads.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local term = string.format('%d', math.max(now, (redis.call('GET', KEYS[2]) or 0) + 1))
redis.call('SET', KEYS[2], term)
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. term, 'PX', ARGV[2])
return tonumber(term)
