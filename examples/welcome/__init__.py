"""The application that `make run` serves: a page with live numbers, and a JSON API behind it.

    page.html    one file, nothing fetched from elsewhere
    curl.txt     the lines that the page shows and `make run` prints
    stats.py     what has been served, and for how long
    notes.py     the JSON API: list, add, read, delete
"""

import asyncio
from pathlib import Path

import flowcore
from examples.welcome import notes
from examples.welcome.stats import Stats
from flowcore.http import App, HTTPError, Response

app = App()
stats = Stats()
notes.add_routes(app, stats)

HERE = Path(__file__).parent
CURL = (HERE / "curl.txt").read_text()
PAGE = (
    (HERE / "page.html")
    .read_text()
    .replace("@VERSION@", flowcore.__version__)
    .replace("@CURL@", CURL.replace("&", "&amp;").replace("<", "&lt;").rstrip())
)
# The page's own style and script are inside it; everything else a browser might load is refused.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {"content-security-policy": POLICY, "cache-control": "no-cache"}

TICK_S = 0.25
MAX_TICKS = 1000


@app.get("/")
@stats.counted
async def page():
    return Response(PAGE, headers=HEADERS, content_type="text/html; charset=utf-8")


@app.get("/api/ping")
@stats.counted
async def ping():
    return Response(b"pong\n", content_type="text/plain", headers={"cache-control": "no-store"})


@app.get("/api/stats")
@stats.counted
async def read_stats():
    return stats.read()


@app.get("/api/ticks")
@stats.counted
async def ticks(request):
    """A line of JSON every quarter of a second, `count` in all."""
    asked = request.query.get("count", "20")
    count = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 5 else 0
    if not 1 <= count <= MAX_TICKS:
        raise HTTPError(400, f"count is from 1 to {MAX_TICKS}")

    async def lines():
        stats.streams += 1
        try:
            for number in range(1, count + 1):
                yield f'{{"tick": {number}, "requests": {stats.requests}}}\n'
                await asyncio.sleep(TICK_S)
        finally:
            stats.streams -= 1

    return Response(lines(), content_type="application/x-ndjson")
