-- The sessions of one site, or of one owner there, last seen first. KEYS: their list, what is known of each. ARGV: seconds that
-- one stays listed, how many to pass over, how many to give. Returns name, when it was seen, and facts of each.
local now = redis.call('TIME')[1]
local found = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', '(' .. (now - ARGV[1]), 'WITHSCORES', 'LIMIT', ARGV[2], ARGV[3])
local answer = {}
for at = 1, #found, 2 do
  local facts = redis.call('HGET', KEYS[2], found[at])
  if facts then
    answer[#answer + 1] = {found[at], found[at + 1], facts}
  end
end
return answer
