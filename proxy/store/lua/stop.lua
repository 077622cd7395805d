-- Ask the replica that runs an answer to end it. KEYS: the answer's marks.
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'stop', 1) end
return 1
