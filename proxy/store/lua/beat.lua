-- Says that a replica is alive. KEYS: the set of replicas. ARGV: this replica, seconds after which a silent one is dropped.
-- Returns how many are alive. The scores are seconds of this server's clock, so that replicas need not agree on the time.
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
-- Times from before the clock was set back would stay for ever.
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + ARGV[2], '+inf')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
