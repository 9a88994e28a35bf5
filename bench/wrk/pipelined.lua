-- 16 requests in one write; wrk counts each response.
dofile("report.lua")
function init(args)
  batch = string.rep(wrk.format(), 16)
end
function request()
  return batch
end
