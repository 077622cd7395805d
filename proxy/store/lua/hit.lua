-- One hit against all tiers or, if any refuses, against none.
-- KEYS: per tier its log, then its bucket if it has one (the bucket is where the tier has a burst below its limit).
-- ARGV: per tier "limit window burst" (0 = no bucket).  Returns one text, per tier "remaining reset retry_after".
-- All times are whole microseconds of this server's clock. A log is a list of hit times, oldest first.
-- Numbers travel joined, since redis-py spends more on each value than this script on splitting them.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function at(log, index)
  return tonumber(redis.call('LINDEX', log, index))
end

-- Cuts off the hits that no longer count. Returns how many do, and the oldest of them.
local function live_hits(log, window)
  local length = redis.call('LLEN', log)
  if length == 0 then return 0, now end
  local oldest = at(log, 0)
  if oldest > now + window then -- the clock was set back by more than a window: these times say nothing any more
    redis.call('DEL', log)
    return 0, now
  end
  if oldest > now - window then return length, oldest end
  local low, high = 1, length -- the first hit that counts is in low..high; binary, since a limit can be thousands
  while low < high do
    local middle = math.floor((low + high) / 2)
    if at(log, middle) > now - window then high = middle else low = middle + 1 end
  end
  redis.call('LTRIM', log, low, -1)
  if low == length then return 0, now end
  return length - low, at(log, 0)
end

-- When the bucket will be full again (GCRA's theoretical arrival time), at least now.
local function full_at(tier)
  local stored = tonumber(redis.call('GET', tier.bucket) or now)
  local latest = now + tier.burst * tier.interval + tier.window -- anything later was stored before a clock was set back
  if stored < now or stored > latest then return now end
  return stored
end

local tiers, passes, key = {}, true, 0
for _, numbers in ipairs(ARGV) do
  local limit, window, burst = string.match(numbers, '(%d+) (%d+) (%d+)')
  local tier = {limit = tonumber(limit), window = tonumber(window), burst = tonumber(burst), wait = 0}
  key = key + 1
  tier.log = KEYS[key]
  tier.count, tier.oldest = live_hits(tier.log, tier.window)
  if tier.count >= tier.limit then
    tier.wait = at(tier.log, tier.count - tier.limit) + tier.window - now
  end
  if tier.burst > 0 then
    key = key + 1
    tier.bucket = KEYS[key]
    tier.interval = math.max(1, math.floor(tier.window / tier.limit))
    tier.full_at = full_at(tier)
    tier.wait = math.max(tier.wait, tier.full_at + tier.interval - tier.burst * tier.interval - now)
  end
  passes = passes and tier.wait == 0
  tiers[#tiers + 1] = tier
end

local answer = {}
for _, tier in ipairs(tiers) do
  if passes then
    -- A second more than needed: what counts is decided by the log, the expiry only tidies up.
    local life = math.ceil(tier.window / 1000) + 1000
    redis.call('RPUSH', tier.log, string.format('%.0f', now))
    redis.call('PEXPIRE', tier.log, life)
    tier.count = tier.count + 1
    if tier.bucket then
      tier.full_at = tier.full_at + tier.interval
      redis.call('SET', tier.bucket, string.format('%.0f', tier.full_at), 'PX', life)
    end
  end
  local remaining = math.max(0, tier.limit - tier.count)
  if tier.bucket then
    local tokens = math.floor((tier.burst * tier.interval - (tier.full_at - now)) / tier.interval)
    remaining = math.min(remaining, tokens)
  end
  answer[#answer + 1] = remaining
  answer[#answer + 1] = tier.count > 0 and tier.oldest + tier.window - now or 0
  answer[#answer + 1] = tier.wait
end
return table.concat(answer, ' ')
