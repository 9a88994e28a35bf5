"""The benchmark's routes as a flowcore application."""

import asyncio

from flowcore.http import App, Response

TEXT = "text/plain; charset=utf-8"

app = App()


@app.get("/")
async def plain(request):
    return Response(b"Hello, World!", content_type=TEXT)


@app.get("/json")
async def json_(request):
    return {"message": "Hello, World!"}


@app.post("/upload")
async def upload(request):
    return Response(str(len(request.body)).encode(), content_type=TEXT)


@app.get("/sleep0")
async def sleep0(request):
    await asyncio.sleep(0)
    return Response(b"Hello, World!", content_type=TEXT)
