"""The benchmark's routes as a raw RSGI application, granian's own interface."""

import asyncio
import json

TEXT = [("content-type", "text/plain; charset=utf-8")]
JSON = [("content-type", "application/json")]


async def app(scope, protocol):
    path = scope.path
    if path == "/":
        protocol.response_bytes(200, TEXT, b"Hello, World!")
    elif path == "/json":
        body = json.dumps({"message": "Hello, World!"}, separators=(",", ":")).encode()
        protocol.response_bytes(200, JSON, body)
    elif path == "/upload":
        protocol.response_bytes(200, TEXT, str(len(await protocol())).encode())
    elif path == "/sleep0":
        await asyncio.sleep(0)
        protocol.response_bytes(200, TEXT, b"Hello, World!")
    else:
        protocol.response_empty(404, [])
