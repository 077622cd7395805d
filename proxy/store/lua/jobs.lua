-- Jobs to be done, and those that were given up. KEYS: when each is due, their data, how often each was tried, when each was
-- given up. ARGV: what to do, how many are kept, the job's name, and more. All keys lie in one slot.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local due, data, tries, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local what, most, name = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local function at(seconds)
  return string.format('%.6f', now + seconds)
end
local function drop(which)
  redis.call('ZREM', due, which)
  redis.call('ZREM', dead, which)
  redis.call('HDEL', data, which)
  redis.call('HDEL', tries, which)
end
local answer = 1
if what == 'put' then
  if redis.call('ZCARD', due) >= most then
    return 0
  end
  drop(name)
  redis.call('HSET', data, name, ARGV[4])
  redis.call('ZADD', due, at(0), name)
elseif what == 'take' then
  local first = redis.call('ZRANGEBYSCORE', due, '-inf', at(0), 'LIMIT', 0, 1)[1]
  if not first then
    return false
  end
  redis.call('ZADD', due, at(ARGV[4]), first)
  answer = {first, redis.call('HGET', data, first) or '', redis.call('HINCRBY', tries, first, 1)}
elseif what == 'done' then
  drop(name)
elseif what == 'later' or what == 'hold' then
  if redis.call('ZSCORE', due, name) then
    redis.call('ZADD', due, at(ARGV[4]), name)
    if what == 'hold' then
      redis.call('HINCRBY', tries, name, -1)
    end
  end
elseif what == 'bury' then
  if redis.call('ZREM', due, name) == 1 then
    redis.call('ZADD', dead, at(0), name)
    for _, old in ipairs(redis.call('ZRANGE', dead, 0, -1 - most)) do
      drop(old)
    end
  end
elseif what == 'again' then
  answer = redis.call('ZREM', dead, name)
  if answer == 1 then
    redis.call('HDEL', tries, name)
    redis.call('ZADD', due, at(0), name)
  end
elseif what == 'dead' then
  answer = {}
  local found = redis.call('ZRANGE', dead, -tonumber(ARGV[4]), -1, 'WITHSCORES')
  for i = #found - 1, 1, -2 do
    local known = redis.call('HGET', tries, found[i]) or 0
    answer[#answer + 1] = {found[i], redis.call('HGET', data, found[i]) or '', tonumber(known), found[i + 1]}
  end
end
-- Nothing stays for ever; every change begins the month anew.
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, 2592000)
end
return answer
