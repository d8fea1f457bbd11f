-- Queues dead items of one queue again.
-- KEYS: 1 the tenant's index of queues, 2 fresh ids, 3 dead ids by time, 4 states
-- ARGV: 1 name of the queue, 2 now, 3 channel on which pollers listen, 4 the tenant, 5 the state they begin with,
--       then the ids
-- Answers: how many were dead.
local redriven = 0
for at = 6, #ARGV do
  if redis.call('ZREM', KEYS[3], ARGV[at]) == 1 then
    redis.call('HSET', KEYS[4], ARGV[at], ARGV[5])
    redis.call('RPUSH', KEYS[2], ARGV[at])
    redriven = redriven + 1
  end
end
if redriven > 0 then
  announce(KEYS[1], ARGV[2], ARGV[1], true, ARGV[3], ARGV[4])
end
return redriven
