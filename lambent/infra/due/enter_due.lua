-- Lets a record be looked at by the time that it is due, or earlier, and ends a claim to it.
-- KEYS: 1 records, by the time at which they are to be looked at
-- ARGV: 1 record, 2 when it is due
local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 'inf')
local due = tonumber(ARGV[2])
if score <= due then
  due = score - 0.001
end
redis.call('ZADD', KEYS[1], string.format('%.3f', due), ARGV[1])
return 1
