"""The application under test, served as a program: sut.py '{"host": ..., <limits>}'.

Its routes are what a hostile peer needs to find: work that is slow, large, streamed or blocking,
and the server's own count of what it holds.
"""

import asyncio
import gc
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator

import flowcore
from flowcore.http import App, Request, Response, Server, ServerConfig
from flowcore.http.run import announce, serve_until_signal

CHUNK_BYTES = 65536

app = App()
servers: list[Server] = []
seen: Counter[str] = Counter()


@app.get("/")
async def hello() -> str:
    return "hello"


@app.get("/pid")
async def pid() -> str:
    return str(os.getpid())


@app.get("/slow/{seconds:float}")
async def slow(seconds: float) -> str:
    seen["started"] += 1
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        seen["cancelled"] += 1
        raise
    seen["finished"] += 1
    return "slow"


@app.get("/block/{seconds:float}")
def block(seconds: float) -> str:
    time.sleep(seconds)
    return "blocked"


@app.get("/big/{size:int}")
async def big(size: int) -> bytes:
    return bytes(size)


@app.get("/stream/{size:int}")
async def stream(size: int) -> AsyncIterator[bytes]:
    seen["started"] += 1
    try:
        for at in range(0, size, CHUNK_BYTES):
            seen["chunks"] += 1
            yield b"s" * min(CHUNK_BYTES, size - at)
        seen["finished"] += 1
    finally:
        seen["closed"] += 1


@app.get("/page")
async def page() -> Response:
    return Response(
        "<!doctype html><title>before</title><h1 id=h>plain</h1>"
        "<script>fetch('/echo', {method: 'POST', body: 'from the page'})"
        ".then(r => r.text()).then(t => { document.getElementById('h').textContent = t; });"
        "</script>",
        content_type="text/html; charset=utf-8",
    )


@app.post("/upload")
async def upload(request: Request) -> str:
    return str(len(request.body))


@app.post("/echo")
@app.put("/echo")
async def echo(request: Request) -> bytes:
    return request.body


@app.get("/headers")
async def headers(request: Request) -> dict[str, str]:
    return dict(request.headers.items())


@app.get("/crash")
async def crash() -> None:
    os._exit(3)


@app.get("/stats")
async def stats() -> dict[str, int]:
    gc.collect()
    counts = {
        "connections": sum(server.connections for server in servers),
        "served": sum(server.served for server in servers),
        "refused": sum(server.refused for server in servers),
        "tasks": len(asyncio.all_tasks()),
    }
    return counts | dict(seen)


def started(server: Server) -> None:
    servers.append(server)
    announce(server.addresses, 1)


def main(options: dict[str, object]) -> None:
    host, access_log = options.pop("host", "127.0.0.1"), options.pop("access_log", False)
    config = ServerConfig(**options)  # type: ignore[arg-type]
    flowcore.run(
        serve_until_signal(
            app, host=host, port=0, access_log=access_log, config=config, on_started=started
        )
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
