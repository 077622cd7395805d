-- One subject's standing. KEYS: its hash; the set of blocked subjects (scores: until when); the number of that set's state.
-- ARGV: what to do, the subject, then numbers. Times are milliseconds of this server's clock.
--   note    points, half life, points that block, first block, longest block, points that it
--           leaves; returns "score blocked", the block in ms
--   block   how long
--   unblock
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local subject = ARGV[2]

local function changed()
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  redis.call('PEXPIRE', KEYS[2], 90 * 86400000)
  redis.call('INCR', KEYS[3])
  redis.call('PEXPIRE', KEYS[3], 90 * 86400000)
end

if ARGV[1] == 'unblock' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], subject, subject .. '!')
  changed()
  return ''
end

if ARGV[1] == 'block' then
  local until_ = now + tonumber(ARGV[3])
  redis.call('HSET', KEYS[1], 'until', until_)
  redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[3]) + 1000)
  redis.call('ZADD', KEYS[2], until_, subject .. '!') -- the mark of those that were blocked by hand
  changed()
  return ''
end

local points, half_life, most, first, longest =
  tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local half = tonumber(ARGV[8]) -- of the points, which a block leaves
local known = redis.call('HMGET', KEYS[1], 'score', 'at', 'until', 'times')
local score, at = tonumber(known[1] or 0), tonumber(known[2] or now)
local until_, times = tonumber(known[3] or 0), tonumber(known[4] or 0)
score = score * 0.5 ^ (math.max(0, now - at) / half_life) + points
if score >= most and until_ <= now then
  if now - until_ > longest then times = 0 end
  times = times + 1
  until_ = now + math.min(longest, first * 2 ^ math.min(times - 1, 30))
  score = half
  redis.call('ZADD', KEYS[2], until_, subject)
  changed()
end
redis.call('HSET', KEYS[1], 'score', string.format('%.6f', score), 'at', now, 'until', until_, 'times', times)
redis.call('PEXPIRE', KEYS[1], math.max(0, until_ - now) + longest + 20 * half_life)
return string.format('%.6f %.0f', score, math.max(0, until_ - now))
