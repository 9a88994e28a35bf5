"""Replies that are sent as they are made: `flowcore serve examples.streaming:app`.

    curl -N localhost:8000/countdown/3       lines, one every 0.2 s
    curl -N localhost:8000/events            server-sent events, for EventSource in a browser
    curl localhost:8000/zeros/1000000000 | wc -c

The third one holds no more in memory than the stream's high-water mark: the iterator is only asked
for its next piece once the client has taken most of what waits.
"""

import asyncio
import itertools
import json

from flowcore.http import App, HTTPError, Response

app = App()

BLOCK = bytes(65536)
LONGEST_COUNTDOWN = 1000


@app.get("/countdown/{start:int}")
async def countdown(start):
    if start > LONGEST_COUNTDOWN:
        raise HTTPError(400, f"count down from at most {LONGEST_COUNTDOWN}")

    async def lines():
        for left in range(start, 0, -1):
            yield f"{left}\n"
            await asyncio.sleep(0.2)
        yield "done\n"

    return Response(lines(), content_type="text/plain; charset=utf-8")


@app.get("/events")
async def events():
    async def stream():
        for number in itertools.count(1):
            yield f"id: {number}\ndata: {json.dumps({'number': number})}\n\n"
            await asyncio.sleep(0.5)

    # Until the client leaves: that cancels the iterator where it waits.
    return Response(stream(), content_type="text/event-stream")


@app.get("/zeros/{size:int}")
async def zeros(size):
    async def blocks():
        for at in range(0, size, len(BLOCK)):
            yield BLOCK[: size - at]

    return blocks()
