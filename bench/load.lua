-- What wrk sends: an event in which each entity id is another one, so that no answer can be remembered.
-- Arguments: the file of the body, in which @ID@ stands for the id; events a second of one thread, 0 for as many
-- as are answered; a folder for the ids of accepted events, or nothing. wrk tells an answer from another by its
-- thread alone, so ids can be kept only where each thread has one connection.
local number, thread_number = 0, 0

function setup(thread)
   thread_number = thread_number + 1
   thread:set("name", thread_number)
end

function init(arguments)
   local file = assert(io.open(arguments[1], "rb"))
   local body = file:read("*a")
   file:close()
   local at, after = body:find("@ID@", 1, true)
   before, behind = body:sub(1, at - 1), body:sub(after + 1)
   -- wrk looks for these two after init, and is slower where it finds them.
   if tonumber(arguments[2]) > 0 then delay = pace(tonumber(arguments[2])) end
   if arguments[3] then response = keep(arguments[3] .. "/" .. name) end
end

function request()
   number = number + 1
   id = name .. "-" .. number
   return wrk.format("POST", "/", nil, before .. id .. behind)
end

-- The milliseconds to the next free place in an even row of them; a late one is not given up.
function pace(rate)
   local ffi = require("ffi")
   ffi.cdef("typedef struct { long seconds, microseconds; } moment; int gettimeofday(moment *, void *);")
   local moment, due = ffi.new("moment"), nil
   return function()
      ffi.C.gettimeofday(moment, nil)
      local now = tonumber(moment.seconds) * 1000 + tonumber(moment.microseconds) / 1000
      due = (due or now) + 1000 / rate
      return math.max(0, math.floor(due - now + 0.5))
   end
end

function keep(path)
   local file = assert(io.open(path, "w"))
   file:setvbuf("no")
   return function(status)
      if status >= 200 and status < 300 then file:write(id .. "\n") end
   end
end

function done(summary, latency, _)
   local e = summary.errors
   io.write(string.format(
      '{"requests": %d, "microseconds": %d, "refused": %d, "broken": %d, "timeouts": %d, "p50": %d, "p99": %d, "p999": %d}\n',
      summary.requests, summary.duration, e.status, e.connect + e.read + e.write, e.timeout,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
