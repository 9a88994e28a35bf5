"""The benchmark's routes as a raw ASGI application: no framework between server and handler."""

import asyncio
import json

TEXT = b"text/plain; charset=utf-8"


async def app(scope, receive, send):
    path = scope["path"]
    content_type = TEXT
    if path == "/":
        body = b"Hello, World!"
    elif path == "/json":
        body = json.dumps({"message": "Hello, World!"}, separators=(",", ":")).encode()
        content_type = b"application/json"
    elif path == "/upload":
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        body = str(size).encode()
    elif path == "/sleep0":
        await asyncio.sleep(0)
        body = b"Hello, World!"
    else:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        return
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
