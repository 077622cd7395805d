-- Adds to the log of revocations. KEYS: the log. ARGV: µs that an entry is kept, how many the log holds, then the entries.
-- Numbers are microseconds of this server's clock, and never the same or a smaller one. Returns 0 where it is full.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', math.max(0, now - ARGV[1])))
if redis.call('XLEN', KEYS[1]) + #ARGV - 2 > tonumber(ARGV[2]) then
  return 0
end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local number = math.max(now, newest and tonumber(string.match(newest[1], '^%d+')) + 1 or 0)
for at = 3, #ARGV do
  redis.call('XADD', KEYS[1], string.format('%.0f-0', number), 'm', ARGV[at])
  number = number + 1
end
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[1] / 1000))
return 1
