-- Adds hits that were counted elsewhere while this server was away. KEYS: a log, and its bucket if it has one.
-- ARGV: the window, in how many microseconds the bucket is full, the hits' ages, oldest first. All in microseconds.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local window = tonumber(ARGV[1])
local life = math.ceil(window / 1000) + 1000

local times = {}
for _, time in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do times[#times + 1] = tonumber(time) end
for age in string.gmatch(ARGV[3], '%d+') do
  if tonumber(age) < window then times[#times + 1] = now - tonumber(age) end
end
table.sort(times)
redis.call('DEL', KEYS[1])
for from = 1, #times, 1000 do
  local some = {}
  for at = from, math.min(from + 999, #times) do some[#some + 1] = string.format('%.0f', times[at]) end
  redis.call('RPUSH', KEYS[1], unpack(some))
end
redis.call('PEXPIRE', KEYS[1], life)
if KEYS[2] then
  local full_at = math.max(tonumber(redis.call('GET', KEYS[2]) or 0), now + tonumber(ARGV[2]))
  redis.call('SET', KEYS[2], string.format('%.0f', full_at), 'PX', life)
end
