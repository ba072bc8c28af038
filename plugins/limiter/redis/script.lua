-- Decides and settles over any number of buckets in one step; Redis runs nothing else meanwhile.
--
-- The arithmetic is that of gcra.py, budget.py and leases.py, to the last tick. Lua's numbers are doubles, exact
-- up to 2^53, so a rate is kept as whole units and a part of one, and products are taken apart where they
-- would be larger. Amounts are at most 2^53 (money, in nanodollars) or 2^50 (all else); see grammar.py.
--
-- KEYS[1]  what this process asked last, the others are buckets. All have one hash tag and an expiry.
-- ARGV[1]  JSON: number of the call (0: it changes nothing), µs of a lease, limits, gives, asks, number of the
--          last call that was answered (0: need not be known), spent
--   limits    {'r', interval, scale, burst} | {'b', amount, µs of the window or 0 for a month} | {'l', amount}
--   gives     {limit, key, reserved, used, receipt}; of a lease the receipt is its id, and used > 0 renews it
--   spent     {key, end of the window, amount} of budgets that were lost; the higher one counts
--   asks      {1 or 0 to only look, id, limit, key, amount, 1 for a shadow, limit, key, …}
--
-- Returns four numbers for each limit of each ask: receipt (0: refused), wait (-1: for ever), remaining, reset.
-- Or "lost", and does nothing, when what the process was answered is not known here: then other keys are gone too.

local floor, fmod, max, min, format = math.floor, math.fmod, math.max, math.min, string.format
local EXACT = 9007199254740992
local GRACE = 60000 -- ms that a bucket is kept after it is unused
local REMEMBERED = 86400000 -- ms that a call is remembered
local TRY_AGAIN = 1000000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local number, lease, limits, gives, asks, answered, spent = unpack(cjson.decode(ARGV[1]))

local last = redis.call('GET', KEYS[1])
local done, before = 0, ''
if last then
  done, before = string.match(last, '^(%d+) (.*)$')
  done = tonumber(done)
end
if done < answered then
  return 'lost'
end
-- A call that was answered too late is sent again, to learn whether it was done. One number is done once.
if number > 0 and done >= number then
  return done == number and before or ''
end

-- floor(a * b / m) and the rest; exact for a, b < 2^53 and m < 2^42, or m < 2^51 bit by bit.
local function muldiv(a, b, m)
  local product = a * b
  if product < EXACT then
    local rest = fmod(product, m)
    return (product - rest) / m, rest
  end
  local step = m < 4398046511104 and 1024 or 2
  local rest = fmod(a, m)
  local whole = (a - rest) / m * b
  local power = 1
  while power * step <= b do
    power = power * step
  end
  local quotient, left = 0, 0
  while power >= 1 do
    local part = left * step + rest * (floor(b / power) % step)
    left = fmod(part, m)
    quotient = quotient * step + (part - left) / m
    power = power / step
  end
  return whole + quotient, left
end

-- µs in which so much leaks away, rounded up.
local function drained(whole, part, interval, scale)
  local quotient, left = muldiv(whole, interval, scale)
  left = left + part
  local rest = fmod(left, scale)
  return quotient + (left - rest) / scale + (rest > 0 and 1 or 0)
end

local function less(whole, part, lost, lost_part, interval)
  whole, part = whole - lost, part - lost_part
  if part < 0 then
    whole, part = whole - 1, part + interval
  end
  if whole < 0 then
    return 0, 0
  end
  return whole, part
end

local buckets, writers = {}, {}

-- Rates ----------------------------------------------------------------------------------------------

local function rescaled(whole, part, from, to)
  local quotient, left = muldiv(part, to, from)
  if left > 0 then
    quotient = quotient + 1
  end
  if quotient >= to then
    return whole + 1, quotient - to
  end
  return whole, quotient
end

local function rate(key, interval, scale)
  local bucket = buckets[key]
  if not bucket then
    bucket = {0, 0, 0, 0, interval, scale}
    local kept = redis.call('GET', KEYS[key])
    if kept then
      local at
      at, bucket[1], bucket[2], bucket[3], bucket[4], bucket[5], bucket[6] = struct.unpack('<ddddddd', kept)
      local lost, part = muldiv(max(0, now - at), bucket[6], bucket[5])
      bucket[1], bucket[2] = less(bucket[1], bucket[2], lost, part, bucket[5])
      bucket[3], bucket[4] = less(bucket[3], bucket[4], lost, part, bucket[5])
    end
    buckets[key] = bucket
  end
  if bucket[5] ~= interval or bucket[6] ~= scale then -- as many units, under another rate
    bucket[1], bucket[2] = rescaled(bucket[1], bucket[2], bucket[5], interval)
    bucket[3], bucket[4] = rescaled(bucket[3], bucket[4], bucket[5], interval)
    bucket[5], bucket[6] = interval, scale
  end
  return bucket
end

local function write_rate(key, bucket)
  local whole, part, known, known_part, interval, scale = unpack(bucket)
  if whole == 0 and part == 0 then
    redis.call('DEL', KEYS[key])
    return
  end
  local kept = struct.pack('<ddddddd', now, whole, part, known, known_part, interval, scale)
  local ms = floor(drained(whole, part, interval, scale) / 1000) + GRACE
  redis.call('SET', KEYS[key], kept, 'PX', format('%.0f', ms))
end

local function take_rate(limit, key, amount)
  local interval, scale, burst = limit[2], limit[3], limit[4]
  local bucket = rate(key, interval, scale)
  local whole, part = bucket[1], bucket[2]
  local above = part > 0 and 1 or 0
  local needed = max(amount, 1)
  if whole + needed + above > burst then
    local wait = -1
    if needed <= burst then
      wait = drained(whole + needed - burst, part, interval, scale)
    end
    return 0, wait, burst - whole - above, drained(whole, part, interval, scale)
  end
  return 1, 0, burst - whole - amount - above, drained(whole + amount, part, interval, scale)
end

local function commit_rate(limit, key, amount)
  buckets[key][1] = buckets[key][1] + amount
  writers[key] = write_rate
end

local function give_rate(limit, key, reserved, used)
  local bucket = rate(key, limit[2], limit[3])
  bucket[3] = min(EXACT, bucket[3] + used)
  bucket[1] = min(EXACT, bucket[1] + (used - reserved)) -- the difference first: the sum may be too large
  if bucket[1] < bucket[3] or (bucket[1] == bucket[3] and bucket[2] < bucket[4]) then
    bucket[1], bucket[2] = bucket[3], bucket[4]
  end
  writers[key] = write_rate
end

-- Budgets --------------------------------------------------------------------------------------------

-- The first day of the month that a day since 1970 is in; years begin in March, so that leap days are last.
local function first_of_month(day)
  local z = day + 719468
  local era = floor(z / 146097)
  local day_of_era = z - era * 146097
  local year = floor((day_of_era - floor(day_of_era / 1460) + floor(day_of_era / 36524)
    - floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era - (365 * year + floor(year / 4) - floor(year / 100))
  local month = floor((5 * day_of_year + 2) / 153)
  return day - (day_of_year - floor((153 * month + 2) / 5))
end

local function ends_of(length)
  if length > 0 then
    return now - fmod(now, length) + length
  end
  local day = 86400000000
  return first_of_month(first_of_month(floor(now / day)) + 31) * day
end

local function budget(key)
  local bucket = buckets[key]
  if not bucket then
    bucket = {}
    local kept = redis.call('GET', KEYS[key])
    if kept then
      bucket[1], bucket[2] = struct.unpack('<dd', kept)
    end
    buckets[key] = bucket
  end
  return bucket
end

local function write_budget(key, bucket)
  if bucket[2] == 0 then
    redis.call('DEL', KEYS[key])
    return
  end
  local ms = max(0, floor((bucket[1] - now) / 1000)) + GRACE
  redis.call('SET', KEYS[key], struct.pack('<dd', bucket[1], bucket[2]), 'PX', format('%.0f', ms))
end

local function take_budget(limit, key, amount)
  local bucket, ends = budget(key), ends_of(limit[3])
  if not bucket[1] or bucket[1] < ends then -- a later one stays: the clock was set back
    bucket[1], bucket[2] = ends, 0
  end
  local left = limit[2] - bucket[2]
  local reset = bucket[1] - now
  if left < max(amount, 1) then
    return 0, amount > limit[2] and -1 or reset, left, reset
  end
  return bucket[1], 0, left - amount, reset
end

local function commit_budget(limit, key, amount)
  buckets[key][2] = buckets[key][2] + amount
  writers[key] = write_budget
end

local function give_budget(limit, key, reserved, used, ends)
  local bucket = budget(key)
  if ends <= now or (bucket[1] and bucket[1] ~= ends) then
    return
  end
  bucket[2] = bucket[1] and min(EXACT, max(0, bucket[2] + (used - reserved))) or used
  bucket[1] = ends
  writers[key] = write_budget
end

local function restore_budget(key, ends, amount)
  local bucket = budget(key)
  if ends <= now or (bucket[1] and bucket[1] > ends) then
    return
  end
  bucket[2] = bucket[1] == ends and max(bucket[2], amount) or amount
  bucket[1] = ends
  writers[key] = write_budget
end

-- Leases ---------------------------------------------------------------------------------------------

local function exactly(value)
  return format('%.0f', value)
end

local function take_lease(limit, key, amount)
  local bucket = buckets[key]
  if not bucket then
    bucket = {redis.call('ZCOUNT', KEYS[key], '(' .. exactly(now), '+inf')}
    buckets[key] = bucket
  end
  local left = limit[2] - bucket[1]
  if left < max(amount, 1) then
    return 0, TRY_AGAIN, left, 0
  end
  return 1, 0, left - amount, 0
end

local function put_lease(key, id)
  redis.call('ZADD', KEYS[key], exactly(now + lease), id)
  redis.call('PEXPIRE', KEYS[key], exactly(floor(lease / 1000) + GRACE))
end

local function commit_lease(limit, key, amount, id)
  if amount > 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[key], '-inf', exactly(now))
    put_lease(key, id)
    buckets[key][1] = buckets[key][1] + 1
  end
end

local function give_lease(limit, key, reserved, used, id)
  if used > 0 then
    put_lease(key, id)
  else
    redis.call('ZREM', KEYS[key], id)
  end
end

local take = {r = take_rate, b = take_budget, l = take_lease}
local commit = {r = commit_rate, b = commit_budget, l = commit_lease}
local give = {r = give_rate, b = give_budget, l = give_lease}

for _, each in ipairs(spent) do
  restore_budget(each[1], each[2], each[3])
end

for _, each in ipairs(gives) do
  local limit = limits[each[1]]
  give[limit[1]](limit, each[2], each[3], each[4], each[5])
end

local outcome = {}
for _, ask in ipairs(asks) do
  local taken, admitted = {}, true
  for place = 3, #ask, 4 do
    local limit = limits[ask[place]]
    local receipt, wait, remaining, reset = take[limit[1]](limit, ask[place + 1], ask[place + 2])
    taken[place] = receipt > 0
    if receipt == 0 and ask[place + 3] == 0 then
      admitted = false
    end
    outcome[#outcome + 1] = format('%.0f %.0f %.0f %.0f', receipt, wait, remaining, reset)
  end
  if admitted and ask[1] == 1 then
    for place = 3, #ask, 4 do
      if taken[place] then
        local limit = limits[ask[place]]
        commit[limit[1]](limit, ask[place + 1], ask[place + 2], ask[2])
      end
    end
  end
end

for key, write in pairs(writers) do
  write(key, buckets[key])
end

outcome = table.concat(outcome, ' ')
if number > 0 then
  redis.call('SET', KEYS[1], exactly(number) .. ' ' .. outcome, 'PX', REMEMBERED)
end
return outcome
