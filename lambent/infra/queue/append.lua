-- Queues items of one tenant, each once.
-- KEYS: 1 the tenant's index of queues, then for each queue: its fresh ids, its values
-- ARGV: 1 now, 2 channel on which pollers listen, 3 the tenant, 4 how many queues, then their names,
--       then for each item: which of the queues (from 1), its id, its value
-- Answers: nothing.
local queues = tonumber(ARGV[4])
local woken = {}
for at = 5 + queues, #ARGV, 3 do
  local queue = tonumber(ARGV[at])
  if enqueue(KEYS[2 * queue], KEYS[2 * queue + 1], ARGV[at + 1], ARGV[at + 2]) == 1 then
    woken[queue] = true
  end
end
for queue = 1, queues do
  announce(KEYS[1], ARGV[1], ARGV[4 + queue], woken[queue], ARGV[2], ARGV[3])
end
