-- Says when a claimed record is to be looked at again.
-- KEYS: 1 records, by the time at which they are to be looked at
-- ARGV: 1 record, 2 the end of its claim, 3 when; empty: not again
-- Answers: 1; or 0, the claim is not in force any more, and nothing is changed.
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or tonumber(score) ~= tonumber(ARGV[2]) then
  return 0
end
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
return 1
