-- Loaded by every row: prints one line of JSON. Times are in microseconds.
--
-- wrk adds samples that no request had: for each latency above twice the mean interval of a
-- connection's requests, one for every interval before it ("coordinated omission"). Pipelined,
-- where an interval is a sixteenth of a latency, nearly all samples are such. They are taken out
-- again here, from the longest latency down: what is left is one sample for each request or batch.

local function seen(latency, interval)
  local values, counts = {}, {}
  for i = 1, #latency do
    local value, count = latency(i)
    values[i], counts[value] = value, count
  end
  local total = 0
  for i = #values, 1, -1 do
    local value = values[i]
    local count = counts[value]
    if value >= 2 * interval then
      local earlier = value - interval
      while count > 0 and earlier > interval do
        if counts[earlier] then counts[earlier] = counts[earlier] - count end
        earlier = earlier - interval
      end
    end
    total = total + count
  end
  return values, counts, total
end

local function percentile(values, counts, total, p)
  local left = math.max(1, math.ceil(total * p / 100))
  for _, value in ipairs(values) do
    left = left - counts[value]
    if left <= 0 then return value end
  end
  return 0
end

function done(summary, latency, requests)
  local e = summary.errors
  local each = math.max(1, math.floor(summary.requests / connections))
  local values, counts, total = seen(latency, math.floor(summary.duration / each))
  io.write(string.format(
    '@{"requests":%d,"samples":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d,'
    .. '"socket_errors":%d,"status_errors":%d}\n',
    summary.requests, total, summary.duration,
    percentile(values, counts, total, 50), percentile(values, counts, total, 99),
    percentile(values, counts, total, 99.9), e.connect + e.read + e.write + e.timeout, e.status))
end

connections = tonumber(os.getenv("BENCH_CONNECTIONS"))
