-- Claims records that are to be looked at by now, and puts them off to when the claim ends.
-- KEYS: 1 records, by the time at which they are to be looked at
-- ARGV: 1 now, 2 the end of the claim, 3 most records
-- Answers: the records.
local due = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[3])
for _, record in ipairs(due) do
  redis.call('ZADD', KEYS[1], ARGV[2], record)
end
return due
