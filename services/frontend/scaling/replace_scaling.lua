-- Keeps a tenant's scalable targets in place of those that the change was decided on.
-- KEYS: 1 the tenant's scaling settings
-- ARGV: 1 revision that it was decided on (0: there was none), 2 revision of the new state, 3 the new state (JSON)
-- Answers: "ok" or "conflict"; nothing is changed but by "ok".
if tonumber(redis.call('HGET', KEYS[1], 'revision') or '0') ~= tonumber(ARGV[1]) then
  return 'conflict'
end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'state', ARGV[3])
return 'ok'
