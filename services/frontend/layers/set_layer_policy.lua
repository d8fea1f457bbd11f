-- Keeps who may get a version of a layer.
-- KEYS: 1 the layer, 2 its policies
-- ARGV: 1 number, 2 revision of the policy that is there, or '' for none, 3 the new policy, or '' for none
-- Answers: 1; or 0, and nothing is changed: the version is gone, or its policy is another one.
if redis.call('HEXISTS', KEYS[1], 'version:' .. ARGV[1]) == 0 then
  return 0
end
local kept = redis.call('HGET', KEYS[2], ARGV[1])
local revision = kept and cjson.decode(kept).revision_id or ''
if revision ~= ARGV[2] then
  return 0
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
end
return 1
