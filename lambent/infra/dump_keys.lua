-- What one slot holds of ours, as of one instant.
-- KEYS: 1 any key of the slot
-- ARGV: 1 pattern of the keys, then patterns (Lua's) of keys that are left out
-- Answers: key, its expiry (epoch milliseconds; 0: none), its value as DUMP has it, and so on.
local answer = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  local wanted = true
  for at = 2, #ARGV do
    if string.find(key, ARGV[at]) then
      wanted = false
    end
  end
  local value = wanted and redis.call('DUMP', key)
  if value then
    answer[#answer + 1] = key
    answer[#answer + 1] = math.max(redis.call('PEXPIRETIME', key), 0)
    answer[#answer + 1] = value
  end
end
return answer
