-- The time in microseconds, and what is in each box from ARGV[1] on: id, then fields and values.
local now = redis.call('TIME')
local answer = {string.format('%d%06d', now[1], now[2])}
for at, box in ipairs(KEYS) do
  answer[at + 1] = redis.call('XRANGE', box, ARGV[1], '+')
end
return answer
