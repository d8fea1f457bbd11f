-- Notes that a reader is there for a while, and forgets those whose time is over.
-- KEYS: 1 readers, by the time until which they are there
-- ARGV: 1 reader, 2 seconds
-- Answers: everybody who is there.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', now))
redis.call('ZADD', KEYS[1], string.format('%.6f', now + tonumber(ARGV[2])), ARGV[1])
return redis.call('ZRANGE', KEYS[1], 0, -1)
