-- Claims rules that are to be looked at by now, and puts them off to when the claim ends.
-- KEYS: 1 rules, by the time at which they are to be looked at
-- ARGV: 1 now, 2 the end of the claim, 3 most rules
-- Answers: the rules.
local due = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[3])
for _, rule in ipairs(due) do
  redis.call('ZADD', KEYS[1], ARGV[2], rule)
end
return due
