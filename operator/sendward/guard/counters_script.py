"""What Redis does for one request, and how it is asked: pure, no connection.

Limits are token buckets by the clock of Redis, in exact integers. Lua counts in doubles, so every number
stays below 2**53: time has the finest resolution (a power of ten up to a microsecond) at which the whole
burst fits into 2**52 units. One token is `period * resolution` units, and each tick earns `messages` of
them. A bucket holds how much is used up, and at which tick. What is there is judged at the tick before
now, what is taken is written at the tick after it: so no window of any length `w` admits more than
`burst + rate * w`, whatever the resolution.

Keys, all in one slot of a cluster:

    sendward:{<gateway uid>}:term          <term> <process> <born> <ends>: since when the buckets count, in
                                           µs (0: they began full), and when this key expires, in ms
    sendward:{<gateway uid>}:<uid>         the buckets of an account or key: a line "<term> <process> <born>",
                                           then "<messages> <period> <burst> <tick> <used>" for each limit
    sendward:{<gateway uid>}:check         written by the guards to see that they can

A bucket that is absent, or was written under another first line, counts as emptied at `born` and refilled
since. So whatever Redis forgets (flushed, restarted, an old snapshot, another replica) takes tokens away
and gives none. Buckets expire once they would be full, and the term when nobody has used it for a day and
no bucket is left. What cannot be read counts as emptied now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sendward.guard.limiter import ADMITTED, Admission, Limits

LUA: Final = r"""
-- KEYS: the term, then the subjects.
-- ARGV: 'admit' | 'audit' | 'begin' | 'fill' | 'check', term, process, cost, then for each subject: the
-- number of its limits, and of each limit messages, period, burst, 1 if it only audits.
-- Returns {first subject refused, seconds to wait, first subject audited}, counted from 1; 0: none.
local MOST = 2 ^ 52
local KEEP = 60000  -- ms; how long a bucket outlives its filling
local DAY = 86400000  -- ms
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function text(number) return string.format('%.0f', number) end

local function read(key)  -- the value, nil if there is none; second: whether it is of another type
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value or nil, type(value) == 'table'
end

-- The term outlives its use by a day, and every bucket; `longest`: ms that one of these lives. It is written
-- about once a day, and never to live shorter than it would.
local function keep(head, ends, longest)
  local left = longest + 2 * DAY
  if ends >= now / 1000 + left - DAY then return ends end
  ends = now / 1000 + left
  redis.call('SET', KEYS[1], head .. ' ' .. text(ends), 'PX', text(left))
  return ends
end

-- The head of every record: since when the buckets of this term count.
local function begin(born)
  local head = ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. text(born)
  return head, born, keep(head, 0, 0)
end

local function started()
  local record = read(KEYS[1]) or ''
  local head, term, process, born, ends = string.match(record, '^((%S+) (%S+) (%d+)) (%d+)$')
  born = tonumber(born)
  if term ~= ARGV[2] or process ~= ARGV[3] or born > now then return begin(now) end
  return head, born, tonumber(ends)
end

-- A limit with its sizes: `token` and `capacity` in units, `tick` in microseconds.
local function limit(messages, period, burst)
  local resolution = 1000000
  while resolution > 1 and burst * period * resolution > MOST do resolution = resolution / 10 end
  local made = {messages = messages, period = period, burst = burst, resolution = resolution}
  made.token = period * resolution
  made.capacity = burst * made.token
  made.tick = 1000000 / resolution
  made.before = (now - math.fmod(now, made.tick)) / made.tick
  made.after = made.before + (math.fmod(now, made.tick) > 0 and 1 or 0)
  return made
end

-- Used up at `tick`. A clock that went back earns nothing until it caught up; a bucket was written at most
-- one tick ahead of its time.
local function used(bucket, tick)
  local passed = math.max(tick - bucket.at, -1)
  if passed >= bucket.used / bucket.messages then return 0 end
  return bucket.used - passed * bucket.messages
end

local function emptied(bucket, at)
  bucket.used, bucket.at = bucket.capacity, math.ceil(at / bucket.tick)
  return bucket
end

local function absent(bucket, born)
  if born > 0 then return emptied(bucket, born) end
  bucket.used, bucket.at = 0, bucket.before
  return bucket
end

-- One stored line; nil unless it is a bucket of this clock.
local function parse(line)
  local m, p, b, at, spent = string.match(line, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  if not m or #line > 100 then return nil end
  m, p, b, at, spent = tonumber(m), tonumber(p), tonumber(b), tonumber(at), tonumber(spent)
  if m < 1 or p < 1 or b < 1 or b * p > MOST then return nil end
  local bucket = limit(m, p, b)
  bucket.at, bucket.used = at, spent
  local ahead = at - bucket.after
  if spent > bucket.capacity or ahead > 0 and ahead > bucket.capacity / m then return nil end
  return bucket
end

-- The stored buckets of a subject; nil: none of this term. Second: whether they are unreadable.
local function stored(key, head)
  local record, foreign = read(key)
  if not record then return nil, foreign end
  if string.sub(record, 1, #head + 1) ~= head .. '\n' then return nil, false end
  local buckets = {}
  for line in string.gmatch(string.sub(record, #head + 2), '[^\n]+') do
    local bucket = parse(line)
    if not bucket then return nil, true end
    buckets[#buckets + 1] = bucket
  end
  return buckets, false
end

-- Which stored bucket a limit goes on from: the first with its period, else the one in its place.
local function predecessor(old, taken, wanted, index)
  for position, bucket in ipairs(old) do
    if not taken[position] and bucket.period == wanted.period then return position end
  end
  return old[index] and not taken[index] and index or nil
end

-- Go on with the tokens of another limit, as many as fit; rounded down. Second: whether it was another.
local function carry(bucket, from)
  if bucket.messages == from.messages and bucket.period == from.period and bucket.burst == from.burst then
    bucket.used, bucket.at = from.used, from.at
    return bucket, false
  end
  local left = math.max(0, from.capacity - used(from, from.before))
  local whole = math.floor(left / from.token)
  local units = bucket.capacity
  if whole < bucket.burst and bucket.token == from.token then
    units = left
  elseif whole < bucket.burst then
    local rest = math.floor((left - whole * from.token) / from.token * bucket.token) - 1
    units = whole * bucket.token + math.max(0, rest)
  end
  bucket.used, bucket.at = bucket.capacity - units, bucket.after
  return bucket, true
end

local function subject(key, head, born, argument)
  local old, broken = stored(key, head)
  local taken, made = {}, {changed = broken}
  local count = tonumber(ARGV[argument])
  for index = 1, count do
    local at = argument + 4 * index - 3
    local bucket = limit(tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]))
    local position = old and predecessor(old, taken, bucket, index)
    if position then
      taken[position] = true
      local _, changed = carry(bucket, old[position])
      made.changed = made.changed or changed
    elseif broken then
      emptied(bucket, now)
    else
      absent(bucket, born)
    end
    bucket.audit = ARGV[at + 3] == '1'
    made[index] = bucket
  end
  return made, argument + 4 * count + 1
end

local function write(key, head, buckets)  -- returns how many ms the record lives
  local lines, longest = {head}, 0
  for index, bucket in ipairs(buckets) do
    lines[index + 1] = text(bucket.messages) .. ' ' .. text(bucket.period) .. ' ' .. text(bucket.burst)
      .. ' ' .. text(bucket.at) .. ' ' .. text(bucket.used)
    local ticks = math.max(0, bucket.at - bucket.before) + bucket.used / bucket.messages
    longest = math.max(longest, ticks * bucket.tick / 1000)
  end
  longest = math.ceil(longest) + KEEP
  redis.call('SET', key, table.concat(lines, '\n'), 'PX', text(longest))
  return longest
end

if ARGV[1] == 'check' then
  redis.call('SET', KEYS[2], '1', 'PX', text(KEEP))
  redis.call('GET', KEYS[2])
  return {0, 0, 0}
end
if ARGV[1] == 'fill' then
  local term = string.match(read(KEYS[1]) or '', '^(%S+) ')
  if term ~= ARGV[2] then begin(0) end
  return {0, 0, 0}
end

local head, born, ends = started()
if ARGV[1] == 'begin' then
  keep(head, ends, 0)
  return {0, 0, 0}
end
local cost, audits = tonumber(ARGV[4]), ARGV[1] == 'audit'
local refused, wait, audited, argument = 0, 0, 0, 5
local subjects = {}
for position = 1, #KEYS - 1 do
  subjects[position], argument = subject(KEYS[position + 1], head, born, argument)
  for _, bucket in ipairs(subjects[position]) do
    local missing = used(bucket, bucket.before) + cost * bucket.token - bucket.capacity
    bucket.pays = missing <= 0
    if missing > 0 and (audits or bucket.audit) then
      if audited == 0 then audited = position end
    elseif missing > 0 then
      if refused == 0 then refused = position end
      local seconds = 1  -- what is more than the burst never fits: no wait is right
      if cost <= bucket.burst then
        local ticks = math.ceil(missing / bucket.messages) + math.max(0, bucket.at - 1 - bucket.before)
        seconds = math.ceil(ticks / bucket.resolution)
      end
      wait = math.max(wait, seconds, 1)
    end
  end
end
local longest = 0
for position, buckets in ipairs(subjects) do
  local changed = buckets.changed
  for _, bucket in ipairs(buckets) do
    if refused == 0 and bucket.pays then
      local tick = math.max(bucket.after, bucket.at)
      bucket.used, bucket.at = used(bucket, tick) + cost * bucket.token, tick
      changed = true
    end
  end
  if changed then longest = math.max(longest, write(KEYS[position + 1], head, buckets)) end
end
keep(head, ends, longest)
return {refused, wait, audited}
"""


class UnreadableError(Exception):
    """Redis answered something that the script never answers."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the script. `positions`: of the subjects asked for, those that have limits."""

    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    positions: tuple[int, ...] = ()


def _key(gateway: str, name: str) -> str:
    return f"sendward:{{{gateway}}}:{name}"


def check(gateway: str) -> Call:
    """Does nothing but what `admit` needs the rights and the room for."""
    return Call((_key(gateway, "term"), _key(gateway, "check")), ("check",))


def begin(gateway: str, term: str, process: str, *, full: bool) -> Call:
    """Lets a term begin, empty or full, unless it has begun."""
    return Call((_key(gateway, "term"),), ("fill" if full else "begin", term, process))


def admit(
    gateway: str,
    term: str,
    process: str,
    wanted: Sequence[tuple[str, Limits]],
    cost: int,
    *,
    audit: bool,
) -> Call | None:
    """As `Limiter.admit`. None: nothing is limited."""
    keys = [_key(gateway, "term")]
    arguments = ["audit" if audit else "admit", term, process, str(cost)]
    positions = []
    for position, (uid, limits) in enumerate(wanted):
        if not limits:
            continue
        positions.append(position)
        keys.append(_key(gateway, uid))
        arguments.append(str(len(limits)))
        for limit in limits:
            arguments += (str(limit.messages), str(limit.period), str(limit.burst), "01"[limit.audit])
    return Call(tuple(keys), tuple(arguments), tuple(positions)) if positions else None


def admission(call: Call, reply: object) -> Admission:
    """What the script answered; raises UnreadableError."""
    match reply:
        case [int(refused), int(retry_after), int(audited)]:
            if refused == 0 and audited == 0:
                return ADMITTED
            return Admission(_position(call, refused), retry_after, _position(call, audited))
    raise UnreadableError


def _position(call: Call, number: int) -> int | None:
    if not 0 <= number <= len(call.positions):
        raise UnreadableError
    return call.positions[number - 1] if number else None
