-- Lets a queue be read again.
-- KEYS: 1 the tenant's index of queues, 2 paused queues
-- ARGV: 1 name of the queue, 2 now, 3 channel on which pollers listen, 4 the tenant
-- Answers: 1, or 0 if it was not paused.
if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then
  return 0
end
announce(KEYS[1], ARGV[2], ARGV[1], true, ARGV[3], ARGV[4])
return 1
