-- Reads the log of revocations. KEYS: the log, its name. ARGV: the number behind which, how many at most.
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local entries = redis.call('XRANGE', KEYS[1], string.format('(%.0f-0', math.max(0, ARGV[1])), '+', 'COUNT', ARGV[2])
return {redis.call('GET', KEYS[2]), newest and newest[1] or '0-0', entries}
