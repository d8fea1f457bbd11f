-- Queues items of one tenant, each once.
-- KEYS: 1 the tenant's index of queues, then for each queue: its fresh ids, its values
-- ARGV: 1 now, 2 channel on which pollers listen, 3 the tenant, 4 how many queues, then their names,
--       then for each item: which of the queues (from 1), its id, its value
-- Answers: how many items were not there yet.
local queues = tonumber(ARGV[4])
local appended, woken = 0, {}
for at = 5 + queues, #ARGV, 3 do
  local queue, id = tonumber(ARGV[at]), ARGV[at + 1]
  if redis.call('HSETNX', KEYS[2 * queue + 1], id, ARGV[at + 2]) == 1 then
    appended = appended + 1
    if redis.call('RPUSH', KEYS[2 * queue], id) == 1 then
      woken[queue] = true
    end
  end
end
for queue = 1, queues do
  redis.call('ZADD', KEYS[1], 'LT', ARGV[1], ARGV[4 + queue])
  if woken[queue] then
    redis.call('PUBLISH', ARGV[2], ARGV[3] .. ' ' .. ARGV[4 + queue])
  end
end
return appended
