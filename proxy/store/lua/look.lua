-- Read what there is of an answer. KEYS: its batches, its marks. ARGV: from which number on, how many at most, milliseconds
-- that marks are good for, 1 when somebody listens (which the replica that runs it will see).
-- Returns nothing when there is no such answer, otherwise whether its replica is alive, and the batches.
local length = redis.call('LLEN', KEYS[1])
if length == 0 then return false end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local alive = tonumber(redis.call('HGET', KEYS[2], 'alive') or 0)
if ARGV[4] == '1' and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('HSET', KEYS[2], 'heard', string.format('%.0f', now + ARGV[3]))
end
local batches = redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1)
return {alive > now and alive <= now + ARGV[3] and 1 or 0, length, batches}
