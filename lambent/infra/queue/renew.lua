#!lua flags=allow-oom
-- Holds leases of one queue longer.
-- KEYS: 1 leased ids by end of the lease, 2 tokens
-- ARGV: 1 the new end, then for each lease: id, token
-- Answers: the ids that are still held.
local held = {}
for at = 2, #ARGV, 2 do
  if redis.call('HGET', KEYS[2], ARGV[at]) == ARGV[at + 1] then
    redis.call('ZADD', KEYS[1], 'XX', ARGV[1], ARGV[at])
    held[#held + 1] = ARGV[at]
  end
end
return held
