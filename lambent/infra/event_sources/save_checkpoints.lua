-- Keeps how far a mapping has come.
-- KEYS: 1 the mapping's reader, 2 its checkpoints
-- ARGV: 1 who saves, then shards, each followed by its checkpoint; empty: it is forgotten
-- Answers: 1; or 0, another is its reader, and nothing is kept.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
for at = 2, #ARGV, 2 do
  if ARGV[at + 1] == '' then
    redis.call('HDEL', KEYS[2], ARGV[at])
  else
    redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  end
end
return 1
