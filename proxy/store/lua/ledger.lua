-- What is held and what is spent. KEYS: per account what is held (scores: when it ends), what was spent (scores: when), and
-- the sum of both. ARGV: what to do, the name of the hold, the lease, then per account numbers. All times are whole
-- microseconds of this server's clock. Members are "amount:name", so that an amount is read off its member.
--   hold    per account "limit amount window"; returns per account "used wait", the wait 0 where it passes
--   renew   per account "limit amount window"
--   settle  per account "held amount window"
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local what, name, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])

local function drop(set, sum, before)
  local ended = redis.call('ZRANGEBYSCORE', set, '-inf', string.format('%.0f', before))
  if #ended == 0 then return end
  local total = 0
  for _, member in ipairs(ended) do total = total + tonumber(string.match(member, '^(%d+):')) end
  redis.call('ZREMRANGEBYSCORE', set, '-inf', string.format('%.0f', before))
  redis.call('DECRBY', sum, total)
end

local accounts = {}
for at = 1, #KEYS / 3 do
  local first, amount, window = string.match(ARGV[3 + at], '(%d+) (%d+) (%d+)')
  local account = {held = KEYS[3 * at - 2], spent = KEYS[3 * at - 1], sum = KEYS[3 * at], first = tonumber(first)}
  account.amount, account.window, account.wait = tonumber(amount), tonumber(window), 0
  drop(account.held, account.sum, now)
  drop(account.spent, account.sum, now - account.window)
  account.used = tonumber(redis.call('GET', account.sum) or 0)
  accounts[at] = account
end

-- All three end together: a sum without what it is the sum of would be used up for good.
local function keep(account)
  local life = math.max(math.ceil((account.window + lease) / 1000) + 60000, redis.call('PTTL', account.sum))
  for _, key in ipairs({account.held, account.spent, account.sum}) do redis.call('PEXPIRE', key, life) end
end

local function hold(account)
  local member = account.amount .. ':' .. name
  if redis.call('ZADD', account.held, string.format('%.0f', now + lease), member) == 1 then
    account.used = redis.call('INCRBY', account.sum, account.amount)
  end
  keep(account)
end

if what == 'renew' then
  for _, account in ipairs(accounts) do hold(account) end
  return ''
end

if what == 'settle' then
  for _, account in ipairs(accounts) do
    if redis.call('ZREM', account.held, account.first .. ':' .. name) == 1 then
      redis.call('DECRBY', account.sum, account.first)
    end
    if account.amount > 0 then
      if redis.call('ZADD', account.spent, string.format('%.0f', now), account.amount .. ':' .. name) == 1 then
        redis.call('INCRBY', account.sum, account.amount)
      end
    end
    keep(account)
  end
  return ''
end

local passes = true
for _, account in ipairs(accounts) do
  local excess = account.used + account.amount - account.first
  if redis.call('ZSCORE', account.held, account.amount .. ':' .. name) then excess = 0 end -- asked a second time
  if excess > 0 then
    passes = false
    account.wait = account.window + lease -- what is held now may all be spent
    local at = 0
    while excess > 0 do
      local some = redis.call('ZRANGE', account.spent, at, at + 99, 'WITHSCORES')
      if #some == 0 then break end
      for index = 1, #some, 2 do
        excess = excess - tonumber(string.match(some[index], '^(%d+):'))
        if excess <= 0 then
          account.wait = tonumber(some[index + 1]) + account.window - now
          break
        end
      end
      at = at + 100
    end
  end
end
local answer = {}
for at, account in ipairs(accounts) do
  if passes then hold(account) end
  answer[at] = string.format('%.0f %.0f', account.used, account.wait)
end
return table.concat(answer, ' ')
