-- Queues items of one tenant, each once, unless their token stands for another.
-- KEYS: 1 the tenant's index of queues, then for each queue: its fresh ids, its values, its delayed ids by time,
--       then the tokens
-- ARGV: 1 now, 2 channel on which pollers listen, 3 the tenant, 4 how many queues, then their names,
--       then for each item: which of the queues (from 1), its id, its value, "" or "terms", and with terms: before when
--       it is not leased (0: at once), which of KEYS is its token (0: it has none), until when that is kept
-- Answers: for each item that was not queued since its token stands for another: its id, and the other's.
local now, queues = tonumber(ARGV[1]), tonumber(ARGV[4])
local answer, due, fresh = {}, {}, {}

-- The id that a token stands for, if it is kept. Its key outlives it at most by the difference of two clocks.
local function stands_for(token)
  local kept = redis.call('GET', token)
  local till, id = string.match(kept or '', '^(%d+) (.*)$')
  return till and tonumber(till) > now and id
end

local at = 5 + queues
while at <= #ARGV do
  local queue, id, value = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  local not_before, token, first = 0, nil, nil
  if ARGV[at + 3] == '' then
    at = at + 4
  else
    not_before, token = tonumber(ARGV[at + 4]), KEYS[tonumber(ARGV[at + 5])]
    first = token and stands_for(token)
    if token and not first then
      redis.call('SET', token, ARGV[at + 6] .. ' ' .. id, 'PX', math.max(tonumber(ARGV[at + 6]) - now, 1))
    end
    at = at + 7
  end
  if first then
    answer[#answer + 1] = id
    answer[#answer + 1] = first
  else
    fresh[queue] = fresh[queue] or {}
    if redis.call('HSETNX', KEYS[3 * queue], id, value) == 1 then
      if not_before > now then
        redis.call('ZADD', KEYS[3 * queue + 1], string.format('%d', not_before), id)
      else
        table.insert(fresh[queue], id)
      end
    end
    due[queue] = math.min(due[queue] or math.huge, math.max(not_before, now))
  end
end
for queue, when in pairs(due) do
  local woken = enqueue(KEYS[3 * queue - 1], fresh[queue])
  announce(KEYS[1], string.format('%d', when), ARGV[4 + queue], woken, ARGV[2], ARGV[3])
end
return answer
