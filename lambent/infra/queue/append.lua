-- Queues items of one tenant, each once, unless their token stands for another.
-- KEYS: 1 the tenant's index of queues, then for each queue: its fresh ids, its values, its delayed ids by time,
--       then the tokens
-- ARGV: 1 now, 2 channel on which pollers listen, 3 the tenant, 4 how many queues, then their names,
--       then for each item: which of the queues (from 1), its id, its value, before when it is not leased (0: at once),
--       which of KEYS is its token (0: it has none), until when that is kept
-- Answers: for each item its id, or the one that its token stands for.
local now, queues = tonumber(ARGV[1]), tonumber(ARGV[4])
local answer, due, woken = {}, {}, {}

-- The id that a token stands for, if it is kept. Its key outlives it at most by the difference of two clocks.
local function stands_for(token)
  local kept = redis.call('GET', token)
  local till, id = string.match(kept or '', '^(%d+) (.*)$')
  return till and tonumber(till) > now and id
end

for at = 5 + queues, #ARGV, 6 do
  local queue, id, value = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  local not_before, token = tonumber(ARGV[at + 3]), KEYS[tonumber(ARGV[at + 4])]
  local first = token and stands_for(token)
  if not first then
    if token then
      redis.call('SET', token, ARGV[at + 5] .. ' ' .. id, 'PX', math.max(tonumber(ARGV[at + 5]) - now, 1))
    end
    local fresh, values, delayed = KEYS[3 * queue - 1], KEYS[3 * queue], KEYS[3 * queue + 1]
    if not_before > now then
      if redis.call('HSETNX', values, id, value) == 1 then
        redis.call('ZADD', delayed, ARGV[at + 3], id)
      end
    elseif enqueue(fresh, values, id, value) == 1 then
      woken[queue] = true
    end
    due[queue] = math.min(due[queue] or math.huge, math.max(not_before, now))
  end
  answer[#answer + 1] = first or id
end
for queue, at in pairs(due) do
  announce(KEYS[1], string.format('%d', at), ARGV[4 + queue], woken[queue], ARGV[2], ARGV[3])
end
return answer
