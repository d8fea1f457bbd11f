-- Appends chunks to one log group, and lets go of what is older or more than is kept.
-- KEYS: 1 the tenant's groups, 2 the group's stream, 3 the group's sizes
-- ARGV: 1 name of the group, 2 what it is if it is made now (JSON), 3 now in milliseconds, 4 days that are kept where
--       the group does not say, 5 most bytes that are kept, then for each chunk: its stream, its time, its text
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
local days = cjson.decode(redis.call('HGET', KEYS[1], ARGV[1])).retention_days
if not days or days == cjson.null then days = tonumber(ARGV[4]) end
for at = 6, #ARGV, 3 do
  redis.call('XADD', KEYS[2], '*', 's', ARGV[at], 't', ARGV[at + 1], 'c', ARGV[at + 2])
  redis.call('HINCRBY', KEYS[3], 'bytes', #ARGV[at + 2])
end
local oldest = tonumber(ARGV[3]) - days * 86400000
local bytes = tonumber(redis.call('HGET', KEYS[3], 'bytes') or 0)
-- At most so many a call go beyond those that came: what a shorter retention lets go of goes little by little.
for _ = 1, 64 + #ARGV do
  local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  if not first then break end
  if bytes <= tonumber(ARGV[5]) and tonumber(string.match(first[1], '^%d+')) >= oldest then break end
  redis.call('XDEL', KEYS[2], first[1])
  bytes = redis.call('HINCRBY', KEYS[3], 'bytes', -#first[2][6])
end
