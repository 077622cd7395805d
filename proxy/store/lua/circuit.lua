-- One upstream's circuit, as all replicas know it. KEYS: its state, the probes under way. ARGV: what to do, and with what.
-- Times are microseconds of this server's clock. A generation is the time of a trip: none comes twice, also after a flush.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local generation = tonumber(redis.call('HGET', KEYS[1], 'generation') or 0)
local ends = tonumber(redis.call('HGET', KEYS[1], 'ends') or 0) -- of the cooldown; 0: closed
local what = ARGV[1]

local function number(value)
  return string.format('%.0f', value)
end

local function tell(rest)
  redis.call('PUBLISH', ARGV[3], ARGV[2] .. ' ' .. number(generation) .. ' ' .. number(rest))
end

if what == 'trip' then -- name, channel, cooldown, the generation that is over with this
  if ends <= now or generation == tonumber(ARGV[5]) then
    generation = math.max(now, generation + 1)
    ends = now + ARGV[4]
    redis.call('DEL', KEYS[2])
    redis.call('HSET', KEYS[1], 'generation', number(generation), 'ends', number(ends), 'good', 0)
    redis.call('PEXPIRE', KEYS[1], 86400000)
    tell(ends - now)
  end
elseif what == 'probe' then -- name, channel, generation, probes, how long a probe may take, lease
  if generation ~= tonumber(ARGV[4]) then
    return ends == 0 and 1 or 0 -- nobody knows of an open circuit any more; or it is open anew
  end
  if ends == 0 then
    return 1
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  local good = tonumber(redis.call('HGET', KEYS[1], 'good'))
  if good + redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then
    return 0
  end
  redis.call('ZADD', KEYS[2], number(now + ARGV[6]), ARGV[7])
  redis.call('PEXPIRE', KEYS[2], 86400000)
  return 1
elseif what == 'release' then -- name, channel, lease
  return redis.call('ZREM', KEYS[2], ARGV[4])
elseif what == 'good' then -- name, channel, generation, probes, lease
  if generation ~= tonumber(ARGV[4]) or ends == 0 then
    return 0
  end
  redis.call('ZREM', KEYS[2], ARGV[6])
  if redis.call('HINCRBY', KEYS[1], 'good', 1) >= tonumber(ARGV[5]) then
    redis.call('DEL', KEYS[2])
    redis.call('HSET', KEYS[1], 'ends', 0)
    tell(-1)
  end
  return 1
end
return number(generation) .. ' ' .. number(ends == 0 and -1 or math.max(0, ends - now))
