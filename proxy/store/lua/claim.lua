-- What a key stands for, and for the first one to ask, what it shall stand for. KEYS: the key. ARGV: the value,
-- milliseconds to keep it, the value that it may replace.
-- Returns the value that it stands for now.
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[3] then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
