-- Declare an answer broken off, whose replica gives no sign of life. KEYS: its batches, its marks. ARGV: how many batches
-- were seen, milliseconds that a sign of life is good for, the last batch.
-- Returns 1 when that is how it ends now, 0 when there is more to read, or a sign of life.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local alive = tonumber(redis.call('HGET', KEYS[2], 'alive') or 0)
if alive > now and alive <= now + ARGV[2] then return 0 end
if redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[1]) then return 0 end
redis.call('RPUSHX', KEYS[1], ARGV[3])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HSET', KEYS[2], 'buried', 1) end
return 1
