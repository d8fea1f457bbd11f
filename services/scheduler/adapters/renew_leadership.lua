-- Goes on leading, or ends it.
-- KEYS: 1 the leader
-- ARGV: 1 who leads, 2 its term, 3 milliseconds for which it leads on; 0: it ends
-- Answers: 1, or 0 if another leads or nobody does.
if redis.call('GET', KEYS[1]) ~= ARGV[1] .. ' ' .. ARGV[2] then
  return 0
end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
