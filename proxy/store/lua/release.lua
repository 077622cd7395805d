-- Forget what a key stands for, if it is this. KEYS: the key. ARGV: the value.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
