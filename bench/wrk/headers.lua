-- What a browser sends: ten fields beside Host.
dofile("report.lua")
for line in io.lines("browser_headers.txt") do
  local name, value = line:match("^([^:]+): (.*)$")
  wrk.headers[name] = value
end
