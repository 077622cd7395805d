-- One replica's word on an answer that it runs: a sign of life, and what is new of it.
-- KEYS: the answer's batches, its marks. ARGV: the batch's number, milliseconds to keep all, milliseconds that the sign of
-- life is good for, the batch (empty: nothing is new).
-- A batch goes in at its number only, so that sending it again changes nothing.
-- Returns "length stopped heard"; the length is -1 when another replica has declared the answer broken off.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local marks = redis.call('HMGET', KEYS[2], 'stop', 'heard', 'buried')
if marks[3] then return '-1 0 0' end
local length = redis.call('LLEN', KEYS[1])
if ARGV[4] ~= '' and length == tonumber(ARGV[1]) then
  length = redis.call('RPUSH', KEYS[1], ARGV[4])
end
redis.call('HSET', KEYS[2], 'alive', string.format('%.0f', now + ARGV[3]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
-- A mark that is good for longer than marks are was set before a clock was set back.
local heard = tonumber(marks[2] or 0)
local is_heard = heard > now and heard <= now + ARGV[3]
return string.format('%d %d %d', length, marks[1] and 1 or 0, is_heard and 1 or 0)
