-- Lists sessions of one site as seen now. KEYS: when each was seen, what is known of each. ARGV: seconds that one stays listed,
-- how many the site may have (0: as many as there are), how many an owner may have, then of each session its name, owner, facts.
-- Returns the names that had to go because their owner has too many, or false where the site is full.
-- All keys lie in one slot, and so do the owners' lists, whose names are made here.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local ends = string.format('%.6f', now - ARGV[1])
local past = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ends, 'LIMIT', 0, 1000)
if #past > 0 then
  redis.call('ZREM', KEYS[1], unpack(past))
  redis.call('HDEL', KEYS[2], unpack(past))
end
local most = tonumber(ARGV[2])
if most > 0 and redis.call('ZCOUNT', KEYS[1], '(' .. ends, '+inf') >= most then
  return false
end
local gone, most_of_owner = {}, tonumber(ARGV[3])
for at = 4, #ARGV, 3 do
  local name, owner = ARGV[at], ARGV[at + 1]
  redis.call('ZADD', KEYS[1], string.format('%.6f', now), name)
  redis.call('HSET', KEYS[2], name, ARGV[at + 2])
  if owner ~= '' then
    local theirs = KEYS[1] .. ':' .. owner
    redis.call('ZREMRANGEBYSCORE', theirs, '-inf', ends)
    redis.call('ZADD', theirs, string.format('%.6f', now), name)
    redis.call('EXPIRE', theirs, ARGV[1])
    local oldest = most_of_owner > 0 and redis.call('ZRANGE', theirs, 0, -1 - most_of_owner) or {}
    for _, old in ipairs(oldest) do
      redis.call('ZREM', theirs, old)
      redis.call('ZREM', KEYS[1], old)
      redis.call('HDEL', KEYS[2], old)
      gone[#gone + 1] = old
    end
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[1])
return gone
