-- Makes a reader the one of a mapping, or lets it be so for longer.
-- KEYS: 1 the mapping's reader
-- ARGV: 1 reader, 2 milliseconds
-- Answers: 1; or 0, another is its reader.
local reader = redis.call('GET', KEYS[1])
if reader and reader ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
