-- Jobs to be done, and those that were given up. KEYS: when each is due, their data, how often each was tried, when each was
-- given up, how many bytes either kind has. ARGV: what to do, how many and how many bytes of a kind are kept, the job's
-- name, and more. All keys lie in one slot.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local due, data, tries, dead, bytes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local what, most, most_bytes, name, more = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local function at(seconds)
  return string.format('%.6f', now + seconds)
end
local function size(which)
  return redis.call('HSTRLEN', data, which)
end
local function held(kind)
  return tonumber(redis.call('HGET', bytes, kind) or 0)
end
-- Into a kind, or to another time in it; and out of it: false where it wasn't there.
local function enter(kind, which, seconds)
  if redis.call('ZADD', kind, at(seconds), which) == 1 then
    redis.call('HINCRBY', bytes, kind, size(which))
  end
end
local function leave(kind, which)
  if redis.call('ZREM', kind, which) == 0 then
    return false
  end
  redis.call('HINCRBY', bytes, kind, 0 - size(which)) -- Redis knows no -0
  return true
end
local function drop(which)
  leave(due, which)
  leave(dead, which)
  redis.call('HDEL', data, which)
  redis.call('HDEL', tries, which)
end
local answer = 1
if what == 'put' then
  if redis.call('ZCARD', due) >= most or held(due) + #more > most_bytes then
    return 0
  end
  drop(name)
  redis.call('HSET', data, name, more)
  enter(due, name, 0)
elseif what == 'take' then
  local first = redis.call('ZRANGEBYSCORE', due, '-inf', at(0), 'LIMIT', 0, 1)[1]
  if not first then
    return false
  end
  enter(due, first, more)
  answer = {first, redis.call('HGET', data, first) or '', redis.call('HINCRBY', tries, first, 1)}
elseif what == 'done' then
  drop(name)
elseif what == 'later' or what == 'hold' then
  if redis.call('ZSCORE', due, name) then
    enter(due, name, more)
    if what == 'hold' then
      redis.call('HINCRBY', tries, name, -1)
    end
  end
elseif what == 'bury' then
  if leave(due, name) then
    enter(dead, name, 0)
    while redis.call('ZCARD', dead) > most or held(dead) > most_bytes do
      drop(redis.call('ZRANGE', dead, 0, 0)[1])
    end
  end
elseif what == 'again' then
  answer = 0
  if leave(dead, name) then
    redis.call('HDEL', tries, name)
    enter(due, name, 0)
    answer = 1
  end
elseif what == 'dead' then
  answer = {}
  local found = redis.call('ZRANGE', dead, -tonumber(more), -1, 'WITHSCORES')
  for i = #found - 1, 1, -2 do
    local known = redis.call('HGET', tries, found[i]) or 0
    answer[#answer + 1] = {found[i], redis.call('HGET', data, found[i]) or '', tonumber(known), found[i + 1]}
  end
elseif what == 'held' then
  return {redis.call('ZCARD', due), held(due), redis.call('ZCARD', dead), held(dead)}
end
-- Nothing stays for ever; every change begins the month anew.
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, 2592000)
end
return answer
