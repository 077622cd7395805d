-- Says that a replica is alive. KEYS: the set of replicas, a mark that lasts as long as this memory. ARGV: this replica,
-- seconds after which a silent one is dropped, a new mark.
-- Returns how many are alive, and the mark: another one than before means that what was kept here is gone. The scores are
-- seconds of this server's clock, so that replicas need not agree on the time.
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
-- Times from before the clock was set back would stay for ever.
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + ARGV[2], '+inf')
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[3], 'NX')
redis.call('EXPIRE', KEYS[2], 86400) -- longer than any window, so that a service that ended leaves nothing behind
return {redis.call('ZCARD', KEYS[1]), redis.call('GET', KEYS[2])}
