-- Keeps one post. KEYS: the box; the list of all boxes' posts of this kind; the last number given out. ARGV: the box's name,
-- the post, ms to keep it, how many the box holds, how many all hold.
-- Returns its number: microseconds of this server's clock, and never the same or a smaller one, whatever the clock does.
-- All keys lie in one slot, and so do the boxes that lose their oldest post here.
local time = redis.call('TIME')
local number = math.max(time[1] * 1000000 + time[2], (tonumber(redis.call('GET', KEYS[3])) or 0) + 1)
local written = string.format('%.0f', number)
redis.call('SET', KEYS[3], written)
local id = written .. '-0'
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[4], id, 'd', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('XADD', KEYS[2], id, 'n', ARGV[1])
if redis.call('XLEN', KEYS[2]) > tonumber(ARGV[5]) then
  local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  local prefix = string.sub(KEYS[1], 1, #KEYS[1] - #ARGV[1])
  redis.call('XDEL', prefix .. oldest[2][2], oldest[1])
  redis.call('XDEL', KEYS[2], oldest[1])
end
-- Longer than any post may be kept, so that a quiet service leaves nothing behind.
redis.call('PEXPIRE', KEYS[2], 86400000)
redis.call('PEXPIRE', KEYS[3], 2 * 86400000)
return written
