-- What is kept for one session, read or replaced.
-- KEYS: the vault. ARGV: milliseconds to keep it from now on, at least; and to replace it: the version that is replaced
-- (0: there is none), the new data.
-- Reading returns {version, data}, or nothing. Replacing returns 1, or 0 when another version is kept.
local kept = redis.call('HMGET', KEYS[1], 'version', 'data')
local answer = kept[1] and kept
if ARGV[2] then
  if tonumber(kept[1] or 0) ~= tonumber(ARGV[2]) then return 0 end
  redis.call('HSET', KEYS[1], 'version', ARGV[2] + 1, 'data', ARGV[3])
  answer = 1
end
if answer and redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return answer
