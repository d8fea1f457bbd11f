-- Ends a reader's time with a mapping.
-- KEYS: 1 the mapping's reader
-- ARGV: 1 reader
-- Answers: 1; or 0, it is not its reader.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
